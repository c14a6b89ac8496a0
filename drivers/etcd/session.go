package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
)

// How a session is kept.
const (
	keepDivisor = 4                      // of its TTL: renewed so often
	keepRetry   = 200 * time.Millisecond // after a renewal that failed
	sessionIdle = 30 * time.Second       // it is kept so long without waiters
	expiryLag   = 1500 * time.Millisecond
)

// session is the lease that the places of all waiters of a client hang on, so
// that those of a client that dies are gone soon after. It has one goroutine,
// as long as somebody waits.
type session struct {
	c   *conn
	ttl time.Duration

	mu     sync.Mutex
	id     clientv3.LeaseID // 0: there is none
	used   lease.Instant    // by the last waiter
	making chan struct{}    // closed when the one that is being made is there, or has failed
}

// is reports whether a lease is the session's.
func (s *session) is(id clientv3.LeaseID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return id != 0 && s.id == id
}

// lease returns the session's lease, and begins a session if there is none.
func (s *session) lease(ctx context.Context) (clientv3.LeaseID, error) {
	for {
		s.mu.Lock()
		s.used = s.c.clock.Now()
		if s.id != 0 {
			id := s.id
			s.mu.Unlock()
			return id, nil
		}
		if making := s.making; making != nil { // by another waiter
			s.mu.Unlock()
			select {
			case <-making:
				continue
			case <-ctx.Done():
				return 0, endedBefore(ctx)
			}
		}
		making := make(chan struct{})
		s.making = making
		s.mu.Unlock()
		l, err := s.c.leases.grant(ctx, seconds(s.ttl))
		s.mu.Lock()
		s.making = nil
		if err == nil {
			s.id = l.id
		}
		s.mu.Unlock()
		close(making)
		if err != nil {
			return 0, err
		}
		s.c.work.Start(func() { s.keep(l.id) })
		return l.id, nil
	}
}

// lost ends a session: all who wait look after their places.
func (s *session) lost(id clientv3.LeaseID) {
	s.mu.Lock()
	mine := s.id == id
	if mine {
		s.id = 0
	}
	s.mu.Unlock()
	if mine {
		s.c.leases.lose(id)
		s.c.waiters.wake()
	}
}

// keep renews a session until it is lost or nobody has waited for long.
func (s *session) keep(id clientv3.LeaseID) {
	period := s.ttl / keepDivisor
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.c.ctx.Done():
			return
		}
		if !s.is(id) || s.unused(id) {
			return
		}
		next := period
		sent := s.c.clock.Now()
		ctx, cancel := context.WithTimeout(s.c.ctx, s.ttl/2)
		left, err := s.c.leases.keepAlive(ctx, []clientv3.LeaseID{id})
		cancel()
		switch {
		case err != nil:
			next = keepRetry
		case left[0] == 0:
			s.lost(id)
			return
		default:
			s.c.leases.kept(id, sent)
		}
		timer.Reset(next)
	}
}

// unused ends a session that nobody has needed for long.
func (s *session) unused(id clientv3.LeaseID) bool {
	waiting := s.c.waiters.len() > 0
	s.mu.Lock()
	now := s.c.clock.Now()
	if waiting {
		s.used = now
	}
	over := s.id == id && now.Sub(s.used) > sessionIdle
	if over {
		s.id = 0
	}
	s.mu.Unlock()
	if over {
		s.c.leases.lose(id)
	}
	return over
}
