package rabbitmq

import (
	"context"
	"fmt"
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
	waiting  map[*waiter]struct{}
	waitingM sync.Mutex // of waiting and streams
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
	s = &source{c: c, spec: &own, counts: counts, streams: map[string]*stream{}, waiting: map[*waiter]struct{}{}}
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
	in, err := s.c.openInbox(ctx)
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
