package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	// settleBatch is how many deliveries one driver call settles or extends.
	settleBatch = 1000
	// settleTimeout bounds one driver call that settles. It is shared by
	// callers with contexts of their own, and holds up those who come
	// later, so that it cannot be left to one of them.
	settleTimeout = 10 * time.Second
)

// settler settles deliveries for all consumers of a Broker. One goroutine has
// one driver call under way; whatever was asked meanwhile is the next batch.
// Its queue is bounded by the callers, each of whom waits for its outcome.
type settler struct {
	conn driver.Conn
	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	queue  []*settling
	closed bool
}

// settling is one settlement that somebody waits for.
type settling struct {
	settlement driver.Settlement
	taken      bool // on its way; guarded by settler.mu
	given      bool // up, before it was taken; guarded by settler.mu
	done       chan struct{}
	outcome    driver.Outcome // set before done is closed
}

func newSettler(c driver.Conn) *settler {
	s := &settler{conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// settle makes one attempt. If ctx ends before it has begun, the error is
// ctx's and nothing was done; if after, it is ErrUnknown.
func (s *settler) settle(ctx context.Context, st driver.Settlement) driver.Outcome {
	c := &settling{settlement: st, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return driver.Outcome{Err: ErrClosed}
	}
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.signal()
	select {
	case <-c.done:
		return c.outcome
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.taken {
		c.given = true
		return driver.Outcome{Err: context.Cause(ctx)}
	}
	select {
	case <-c.done:
		return c.outcome
	default:
		return driver.Outcome{Err: fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))}
	}
}

func (s *settler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *settler) run() {
	defer close(s.done)
	for {
		batch, closed := s.take()
		switch {
		case len(batch) > 0:
			s.send(batch)
		case closed:
			return
		default:
			<-s.wake
		}
	}
}

func (s *settler) take() (batch []*settling, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), settleBatch)
	batch = make([]*settling, 0, n)
	for _, c := range s.queue[:n] {
		if !c.given {
			c.taken = true
			batch = append(batch, c)
		}
	}
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return batch, s.closed && len(s.queue) == 0
}

func (s *settler) send(batch []*settling) {
	ss := make([]driver.Settlement, len(batch))
	for i, c := range batch {
		ss[i] = c.settlement
	}
	outcomes, err := settleOnce(s.conn, ss)
	for i, c := range batch {
		if err != nil {
			c.outcome.Err = err
		} else {
			c.outcome = outcomes[i]
		}
		close(c.done)
	}
}

// settleOnce makes one bounded driver call.
func settleOnce(conn driver.Conn, ss []driver.Settlement) ([]driver.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	outcomes, err := conn.Settle(ctx, ss)
	if err != nil {
		return nil, overdue(ctx, err)
	}
	if len(outcomes) != len(ss) {
		return nil, fmt.Errorf("%w: the driver returned %d outcomes for %d settlements", ErrUnknown, len(outcomes), len(ss))
	}
	return outcomes, nil
}

// close settles what is queued and waits for the goroutine.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	<-s.done
}
