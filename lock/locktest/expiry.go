package locktest

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var expiryCases = []testCase{
	{"expires_after_its_ttl", expires},
	{"loss_before_the_next_grant", truthfulLoss},
	{"waited_counts_from_the_call", waited},
	{"lock_delay_after_unclean_loss", lockDelay},
	{"no_lock_delay_after_release", noLockDelay},
}

// expires: not before the TTL has passed since it was asked for, and not long
// after.
func expires(s *suite) {
	r := s.request("dead")
	r.TTL = s.short
	sent := time.Now()
	g := s.grant(s.conn, r)
	received := time.Now()
	s.mustAwait(s.open(), s.queued("next"))
	if after := time.Since(sent); after < g.TTL {
		s.Errorf("granted again %v after the request, the TTL is %v", after, g.TTL)
	}
	if after := time.Since(received); after > g.TTL+2*time.Second {
		s.Errorf("granted again %v after the grant, the TTL is %v", after, g.TTL)
	}
	err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)}))
	s.refused("Renew by the one that expired", err, lease.ErrNotHeld)
}

// truthfulLoss: the holder's context ends before a rival is granted.
func truthfulLoss(s *suite) {
	const rounds = 5
	holder, rival := s.locker(), s.locker()
	for range rounds {
		le, err := holder.Acquire(s.ctx, s.name, &lock.Options{TTL: s.short, NoRenew: true})
		if err != nil {
			s.Fatalf("Acquire: %v", err)
		}
		got, err := rival.Acquire(s.ctx, s.name, nil)
		if err != nil {
			s.Fatalf("Acquire by the rival: %v", err)
		}
		if s.caps.Loss == driver.LossBeforeGrant {
			if le.Check() == nil {
				s.Errorf("the rival was granted while the holder's Check still says that it holds")
			}
			if le.Context().Err() == nil {
				s.Errorf("the rival was granted while the holder's context still lives")
			}
		}
		s.ends(le)
		if cause := context.Cause(le.Context()); cause != lock.ErrExpired {
			s.Errorf("cause %v; want %v", cause, lock.ErrExpired)
		}
		s.refused("Release of the lost lease", le.Release(s.ctx), lock.ErrNotHeld)
		if err := got.Check(); err != nil {
			s.Errorf("the rival's lease: %v", err)
		}
		if err := got.Release(s.ctx); err != nil {
			s.Errorf("Release by the rival: %v", err)
		}
	}
}

// waited: a grant that was waited for longer than its TTL arrives alive.
func waited(s *suite) {
	first := s.request("first")
	g := s.grant(s.conn, first)
	r := s.queued("waiter")
	r.TTL = s.short
	s.line(s.conn, r)
	type result struct {
		g              *driver.Grant
		err            error
		sent, received lease.Instant
	}
	got := make(chan result, 1)
	clock := lease.SystemClock()
	go func() {
		for {
			res := result{sent: clock.Now()}
			res.g, res.err = s.conn.Wait(s.ctx, r, r.Ticket)
			if res.g == nil && res.err == nil {
				res.sent = clock.Now()
				res.g, _, res.err = s.conn.Acquire(s.ctx, r)
			}
			res.received = clock.Now()
			if res.g != nil || res.err != nil {
				got <- res
				return
			}
		}
	}()
	timer := time.NewTimer(s.short + s.short/2)
	defer timer.Stop()
	<-timer.C
	s.release(s.conn, ref(first, g))
	res := <-got
	if res.err != nil {
		s.Fatalf("Wait: %v", res.err)
	}
	if res.g.Waited > res.received.Sub(res.sent) {
		s.Errorf("Waited is %v in a call of %v", res.g.Waited, res.received.Sub(res.sent))
	}
	if deadline := lease.Deadline(res.sent, res.received, res.g.Waited, res.g.TTL); deadline <= res.received {
		s.Errorf("the grant arrived dead: waited %v in a call of %v, TTL %v", res.g.Waited, res.received.Sub(res.sent), res.g.TTL)
	}
}

func lockDelay(s *suite) {
	r := s.request("dead")
	r.TTL, r.LockDelay = s.short, 2*s.short
	if s.lacks(s.caps.LockDelay, r) {
		return
	}
	start := time.Now()
	s.grant(s.conn, r)
	s.mustAwait(s.open(), s.queued("next"))
	if after := time.Since(start); after < r.TTL+r.LockDelay {
		s.Errorf("granted %v after the request; the TTL is %v and the lock-delay %v", after, r.TTL, r.LockDelay)
	}
}

func noLockDelay(s *suite) {
	r := s.request("holder")
	r.LockDelay = time.Minute
	if s.lacks(s.caps.LockDelay, r) {
		return
	}
	s.release(s.conn, ref(r, s.grant(s.conn, r)))
	s.grant(s.conn, s.request("next"))
}
