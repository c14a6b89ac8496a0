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
	// settleCalls is how many driver calls that settle are under way at once:
	// one, and more only for batches that are full while it waits.
	settleCalls = 4
	// settleTimeout bounds one driver call that settles. It is shared by
	// callers with contexts of their own, and holds up those who come
	// later, so that it cannot be left to one of them.
	settleTimeout = 10 * time.Second
)

// settler settles deliveries for all consumers of a Broker. One goroutine has
// one driver call under way; whatever was asked meanwhile is the next batch. A
// batch that fills up before its turn gets a goroutine of its own.
// Its queue is bounded by the callers, each of whom waits for its outcome.
type settler struct {
	conn driver.Conn
	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	queue  []*settling // the last one may still be added to
	closed bool
	usual  int // length of the last batch: most likely that of the next
	extra  int // goroutines for full batches
	extras sync.WaitGroup
}

// settling is one batch, from the first settlement in it until it is decided.
type settling struct {
	done chan struct{}

	// Guarded by settler.mu until it is taken.
	ss    []driver.Settlement
	given int  // how many were given up: their Verb is 0
	taken bool // on its way; nobody adds to it any more

	// Set before done is closed.
	outcomes []driver.Outcome // as many as ss
	err      error
}

// outcome of the i-th settlement.
func (g *settling) outcome(i int) driver.Outcome {
	if g.err != nil {
		return driver.Outcome{Err: g.err}
	}
	return g.outcomes[i]
}

func newSettler(c driver.Conn) *settler {
	s := &settler{conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// settle makes one attempt. If ctx ends before it has begun, the error is
// ctx's and nothing was done; if after, it is ErrUnknown.
func (s *settler) settle(ctx context.Context, st driver.Settlement) driver.Outcome {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return driver.Outcome{Err: ErrClosed}
	}
	var g *settling
	if n := len(s.queue); n > 0 {
		g = s.queue[n-1]
	}
	if g == nil || len(g.ss) == settleBatch {
		g = &settling{ss: make([]driver.Settlement, 0, max(s.usual, 1)), done: make(chan struct{})}
		s.queue = append(s.queue, g)
	}
	i := len(g.ss)
	g.ss = append(g.ss, st)
	if len(g.ss) == settleBatch && s.extra < settleCalls-1 {
		s.extra++
		s.extras.Go(s.sendFull)
	}
	s.mu.Unlock()
	s.signal()
	if ctx.Done() == nil { // Serve's
		<-g.done
		return g.outcome(i)
	}
	select {
	case <-g.done:
		return g.outcome(i)
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !g.taken {
		g.ss[i].Verb = 0
		g.given++
		return driver.Outcome{Err: context.Cause(ctx)}
	}
	select {
	case <-g.done:
		return g.outcome(i)
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
		g, closed := s.take()
		switch {
		case g != nil:
			g.send(s.conn)
		case closed:
			return
		default:
			<-s.wake
		}
	}
}

// sendFull sends full batches while there are any.
func (s *settler) sendFull() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || len(s.queue[0].ss) < settleBatch {
			s.extra--
			s.mu.Unlock()
			return
		}
		g := s.takeLocked()
		s.mu.Unlock()
		g.send(s.conn)
	}
}

// take takes the first batch.
func (s *settler) take() (g *settling, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.closed
	}
	return s.takeLocked(), false
}

func (s *settler) takeLocked() *settling {
	g := s.queue[0]
	g.taken = true
	s.usual = len(g.ss)
	s.queue[0] = nil
	s.queue = s.queue[1:]
	return g
}

// send settles all but what was given up.
func (g *settling) send(conn driver.Conn) {
	defer close(g.done)
	if g.given == 0 {
		g.outcomes, g.err = settleOnce(conn, g.ss)
		return
	}
	left := make([]driver.Settlement, 0, len(g.ss))
	for _, st := range g.ss {
		if st.Verb != 0 {
			left = append(left, st)
		}
	}
	if len(left) == 0 {
		return // nobody waits
	}
	var outcomes []driver.Outcome
	if outcomes, g.err = settleOnce(conn, left); g.err != nil {
		return
	}
	g.outcomes = make([]driver.Outcome, len(g.ss))
	for i := range g.ss {
		if g.ss[i].Verb != 0 {
			g.outcomes[i], outcomes = outcomes[0], outcomes[1:]
		}
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

// close settles what is queued and waits for the goroutines.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	<-s.done
	s.extras.Wait()
}
