package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// source is a queue that is received from.
type source struct {
	c    *conn
	spec *driver.Queue
	// counts: the broker counts how often it has a message back. It does so
	// with quorum queues.
	counts bool

	mu       sync.Mutex // of the requests over inbox
	inbox    *inbox     // for those who take what there is, and those who wait
	streams  map[string]*stream
	openings map[string]*opening
	waiting  map[*waiter]struct{}
	// behind are receives whose callers have left, and that may still be
	// taking messages and handing them back.
	behind   map[chan struct{}]struct{}
	waitingM sync.Mutex // of waiting, behind, streams and openings
}

// waiter is a Receive under way.
type waiter struct {
	consumer string
	left     chan struct{} // closed when the consumer was detached
	once     sync.Once
}

// source returns what is known about a queue. One that was not declared through
// the driver, but is there, has no policy.
func (c *conn) source(ctx context.Context, queue string) (*source, error) {
	c.mu.Lock()
	s, state := c.sources[queue], c.state
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	spec, counts := state.find(queue)
	if spec == nil {
		if _, err := c.Topology(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		spec, counts = c.state.find(queue)
		c.mu.Unlock()
	}
	if spec == nil {
		var err error
		if spec, err = c.foreign(ctx, queue); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sources[queue]; s != nil {
		return s, nil
	}
	own := *spec
	s = &source{
		c: c, spec: &own, counts: counts, streams: map[string]*stream{}, openings: map[string]*opening{},
		waiting: map[*waiter]struct{}{}, behind: map[chan struct{}]struct{}{},
	}
	c.sources[queue] = s
	return s, nil
}

// foreign makes the policy of a queue that somebody else declared.
func (c *conn) foreign(ctx context.Context, queue string) (*driver.Queue, error) {
	err := c.do(ctx, c.out, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("queue %q: %w", queue, err)
	}
	t := driver.Topology{Queues: []driver.Queue{{Name: queue}}}
	if err := t.Validate(&c.caps); err != nil {
		return nil, err
	}
	return &t.Queues[0], nil
}

// forget drops what is known about a queue, and its channels.
func (c *conn) forget(queue string) {
	c.mu.Lock()
	s := c.sources[queue]
	delete(c.sources, queue)
	delete(c.targets, queue)
	c.mu.Unlock()
	if s == nil {
		return
	}
	s.waitingM.Lock()
	streams := s.streams
	s.streams = map[string]*stream{}
	s.waitingM.Unlock()
	for _, st := range streams {
		st.drop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inbox != nil {
		_ = s.inbox.ch.Close()
		<-s.inbox.gone
		c.lose(s.inbox) // before anybody settles what went with it
		s.inbox = nil
	}
}

// open returns the channel for requests; mu is held.
func (s *source) open(ctx context.Context) (*inbox, error) {
	if s.inbox != nil && !s.inbox.dead() {
		return s.inbox, nil
	}
	in, err := s.c.openInbox(ctx, 0)
	if err != nil {
		return nil, err
	}
	s.inbox = in
	return in, nil
}

// gone reports what a failed request means for the source: a queue that is not
// there any more is not remembered.
func (s *source) gone(err error) error {
	if isNotFound(err) {
		s.c.mu.Lock()
		if s.c.sources[s.spec.Name] == s {
			delete(s.c.sources, s.spec.Name)
		}
		s.c.mu.Unlock()
	}
	return err
}

// detach ends what a consumer waits for.
func (s *source) detach(consumer string) {
	s.waitingM.Lock()
	for w := range s.waiting {
		if w.consumer == consumer {
			w.once.Do(func() { close(w.left) })
		}
	}
	st := s.streams[consumer]
	delete(s.streams, consumer)
	if o := s.openings[consumer]; o != nil {
		o.left = true
		delete(s.openings, consumer)
	}
	s.waitingM.Unlock()
	if st != nil {
		st.detach()
	}
}

func (s *source) enter(consumer string) *waiter {
	w := &waiter{consumer: consumer, left: make(chan struct{})}
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	s.waiting[w] = struct{}{}
	return w
}

func (s *source) leave(w *waiter) {
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	delete(s.waiting, w)
}

// unended returns the receives that were left behind and are not through yet.
// The next one begins behind them: otherwise several would take and hand back one
// message in turn, and each time counts as an attempt.
func (s *source) unended() []chan struct{} {
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	if len(s.behind) == 0 {
		return nil
	}
	return slices.Collect(maps.Keys(s.behind))
}

// leaveBehind notes a receive whose caller leaves; over is closed by end.
func (s *source) leaveBehind(over chan struct{}) {
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	if !isClosed(over) {
		s.behind[over] = struct{}{}
	}
}

// end says that a receive is through.
func (s *source) end(over chan struct{}) {
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	close(over)
	delete(s.behind, over)
}

// follows waits until receives are through; false: the caller has left before.
func (s *source) follows(before []chan struct{}, left <-chan struct{}) bool {
	for _, over := range before {
		select {
		case <-over:
		case <-left:
			return false
		case <-s.c.ctx.Done():
			return false
		}
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
