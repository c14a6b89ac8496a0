package rabbitmq

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
)

// side is one of a conn's two connections: a broker that is short of memory
// stops reading from those that publish, and settlements must not wait there.
type side struct {
	c    *conn
	name string
	turn chan struct{} // holds a token while nobody dials

	mu     sync.Mutex
	live   *link
	closed bool
}

// link is one connection, until it is lost.
type link struct {
	conn    *amqp.Connection
	gone    chan struct{}          // closed when it is lost
	blocked atomic.Pointer[string] // why the broker takes no messages, or nil
	idle    chan *amqp.Channel     // one that is open and unused
}

func newSide(c *conn, name string) *side {
	s := &side{c: c, name: name, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

func (s *side) current() (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, lease.ErrClosed
	}
	if s.live != nil && !s.live.lost() {
		return s.live, nil
	}
	return nil, nil //nolint:nilnil // there is none now
}

// get returns the connection, and makes one if it was lost.
func (s *side) get(ctx context.Context) (*link, error) {
	if l, err := s.current(); l != nil || err != nil {
		return l, err
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	if l, err := s.current(); l != nil || err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.o.Timeout)
	defer cancel()
	stop := context.AfterFunc(s.c.ctx, cancel)
	defer stop()
	conn, err := s.c.dial(ctx, s.name)
	if err != nil {
		if s.c.ctx.Err() != nil {
			return nil, lease.ErrClosed
		}
		return nil, dialFailed(err)
	}
	l := &link{conn: conn, gone: make(chan struct{}), idle: make(chan *amqp.Channel, 1)}
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.c.work.Start(func() { l.watch(closes, blocks) }) {
		_ = conn.CloseDeadline(time.Now().Add(closeTime))
		return nil, lease.ErrClosed
	}
	s.live = l
	return l, nil
}

// close ends the connection.
func (s *side) close() {
	s.mu.Lock()
	s.closed = true
	l := s.live
	s.mu.Unlock()
	if l != nil {
		_ = l.conn.CloseDeadline(time.Now().Add(closeTime)) // it is gone all the same
	}
}

func (l *link) lost() bool {
	select {
	case <-l.gone:
		return true
	default:
		return l.conn.IsClosed()
	}
}

// watch notes what the broker says about the connection, until it ends.
func (l *link) watch(closes <-chan *amqp.Error, blocks <-chan amqp.Blocking) {
	defer close(l.gone)
	for {
		select {
		case <-closes: //nolint:errcheck // why it was lost changes nothing
			return
		case b, ok := <-blocks:
			switch {
			case !ok:
				blocks = nil
			case b.Active:
				l.blocked.Store(&b.Reason)
			default:
				l.blocked.Store(nil)
			}
		}
	}
}

// with calls f with a channel that nobody else uses. One that was refused
// something is closed by the broker, and is not used again.
func (l *link) with(f func(*amqp.Channel) error) error {
	var ch *amqp.Channel
	select {
	case ch = <-l.idle:
	default:
	}
	if ch == nil || ch.IsClosed() {
		var err error
		if ch, err = l.conn.Channel(); err != nil {
			return err
		}
	}
	err := f(ch)
	if err == nil && !ch.IsClosed() {
		select {
		case l.idle <- ch:
			return nil
		default:
		}
	}
	_ = ch.Close() // it may be closed
	return err
}

// do calls f with a channel of a side. If ctx ends first it is left behind, and
// what it does is unknown.
func (c *conn) do(ctx context.Context, s *side, f func(*amqp.Channel) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	l, err := s.get(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	if !c.work.Start(func() { done <- l.with(f) }) {
		return lease.ErrClosed
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		return classify(context.Cause(ctx), lease.ErrUnknown)
	}
	if err != nil && c.isClosed() {
		return lease.ErrClosed
	}
	return classify(err, lease.ErrUnknown)
}
