package locktest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var lineCases = []testCase{
	{"waiters_granted_in_order", fifo},
	{"newcomer_does_not_overtake", noBarging},
	{"waiter_is_woken", woken},
	{"ctx_bounds_wait_and_leaves_no_trace", ctxBounds},
	{"cancel_leaves_the_line", cancelLeaves},
	{"cancel_releases_grant", cancelReleases},
	{"cancel_of_unknown", cancelUnknown},
	{"dead_waiter_is_passed", deadWaiter},
}

// fifo puts waiters into the line one after another, has them all wait, and
// looks at the order of the grants.
func fifo(s *suite) {
	waiters := s.h.Waiters
	if waiters == 0 {
		waiters = 1000
	}
	first := s.request("first")
	g := s.grant(s.conn, first)
	conns := []driver.Conn{s.open(), s.open(), s.open()}
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	s.Cleanup(wg.Wait) // so that what went wrong is told, and not that one of them tells it late
	for i := range waiters {
		c := conns[i%len(conns)]
		r := s.queued(fmt.Sprintf("w%04d", i))
		s.line(c, r)
		wg.Go(func() {
			g, err := await(s.ctx, c, r)
			if err != nil {
				s.Errorf("waiter %d: %v", i, err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := one(c.Release(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
				s.Errorf("release by waiter %d: %v", i, err)
			}
		})
	}
	s.release(s.conn, ref(first, g))
	wg.Wait()
	if len(order) != waiters {
		s.Fatalf("%d of %d waiters were granted", len(order), waiters)
	}
	if !s.caps.FIFO {
		return
	}
	for at, i := range order {
		if at != i {
			s.Fatalf("grant %d went to waiter %d", at, i)
		}
	}
}

// noBarging: a waiter that is between two calls is not passed by a try just
// after the release, and neither is one that waits.
func noBarging(s *suite) {
	for _, waiting := range []bool{false, true} {
		first := s.request("first")
		g := s.grant(s.conn, first)
		waiter := s.queued("waiter")
		s.line(s.conn, waiter)
		granted := make(chan *driver.Grant, 1)
		wait := func() {
			g, err := await(s.ctx, s.conn, waiter)
			if err != nil {
				s.Errorf("the waiter: %v", err)
			}
			granted <- g
		}
		if waiting {
			go wait()
		}
		s.release(s.conn, ref(first, g))
		if s.caps.FIFO {
			_, _, err := s.conn.Acquire(s.ctx, s.request("newcomer"))
			s.refused("a try while the line has a waiter", err, driver.ErrHeld)
		}
		if !waiting {
			wait()
		}
		if g := <-granted; g != nil {
			s.release(s.conn, ref(waiter, g))
		}
	}
}

// woken: a release reaches the waiter by itself, well before any periodic
// look. The median counts: a machine may stand still in some of the rounds.
func woken(s *suite) {
	const rounds = 20
	a, b := s.locker(), s.locker()
	var took [rounds]time.Duration
	for i := range took {
		held, err := a.Acquire(s.ctx, s.name, nil)
		if err != nil {
			s.Fatalf("Acquire: %v", err)
		}
		granted := make(chan error, 1)
		go func() {
			le, err := b.Acquire(s.ctx, s.name, nil)
			if err == nil {
				err = le.Release(s.ctx)
			}
			granted <- err
		}()
		s.until("the other waits", func() bool { in := s.info(s.name); return in != nil && in.Waiting == 1 })
		released := time.Now()
		if err := held.Release(s.ctx); err != nil {
			s.Fatalf("Release: %v", err)
		}
		if err := <-granted; err != nil {
			s.Fatalf("the waiter: %v", err)
		}
		took[i] = time.Since(released)
	}
	slices.Sort(took[:])
	if took[rounds/2] > 250*time.Millisecond {
		s.Errorf("of %d hand-overs half took more than %v, one %v: waiters poll", rounds, took[rounds/2], took[rounds-1])
	}
}

func ctxBounds(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	l := s.locker()
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := l.Acquire(ctx, s.name, nil)
	s.refused("Acquire with a deadline", err, context.DeadlineExceeded)
	s.until("the waiter is gone", func() bool { in := s.info(s.name); return in != nil && in.Waiting == 0 })

	// A ctx that ended before lets nothing happen.
	_, err = l.Acquire(ctx, s.name+"/free", nil)
	s.refused("Acquire with an ended ctx", err, context.DeadlineExceeded)
	if in := s.info(s.name + "/free"); in != nil {
		s.Errorf("Acquire with an ended ctx left %+v", *in)
	}

	// A ctx bounds the driver's Wait, too, and the place is kept.
	waiter := s.queued("waiter")
	s.line(s.conn, waiter)
	ctx, cancel = context.WithCancel(s.ctx)
	go cancel()
	if g, _ := s.conn.Wait(ctx, waiter, waiter.Ticket); g != nil {
		s.Errorf("Wait granted a held name")
	}
	s.release(s.conn, ref(r, g))
	s.mustAwait(s.conn, waiter)
}

func cancelLeaves(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	gone, next := s.queued("gone"), s.queued("next")
	s.line(s.conn, gone)
	s.line(s.conn, next)
	for range 2 { // it is idempotent
		if err := s.conn.Cancel(s.ctx, gone); err != nil {
			s.Fatalf("Cancel: %v", err)
		}
	}
	if in := s.info(s.name); in == nil || in.Waiting != 1 {
		s.Errorf("List says %+v after Cancel; want the other waiter", in)
	}
	s.release(s.conn, ref(r, g))
	if g := s.mustAwait(s.conn, next); g == nil {
		s.Errorf("no grant")
	}
	if in := s.info(s.name); in == nil || in.Waiting != 0 {
		s.Errorf("List says %+v after Cancel; want no waiter", in)
	}
}

func cancelReleases(s *suite) {
	r := s.request("holder")
	s.grant(s.conn, r)
	if err := s.conn.Cancel(s.ctx, r); err != nil {
		s.Fatalf("Cancel: %v", err)
	}
	s.grant(s.conn, s.request("next"))
}

func cancelUnknown(s *suite) {
	if err := s.conn.Cancel(s.ctx, s.queued("nobody")); err != nil {
		s.Errorf("Cancel of an unknown request: %v", err)
	}
	r := s.request("holder")
	g := s.grant(s.conn, r)
	other := s.request("holder")
	other.ID = "another"
	if err := s.conn.Cancel(s.ctx, other); err != nil {
		s.Errorf("Cancel of another request of the holder: %v", err)
	}
	if err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
		s.Errorf("Renew after the Cancel of another request: %v", err)
	}
}

// deadWaiter: a head of the line that never comes back is passed over.
func deadWaiter(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	dead := s.open()
	s.line(dead, s.queued("dead"))
	next := s.queued("next")
	s.line(s.conn, next)
	if err := dead.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.release(s.conn, ref(r, g))
	start := time.Now()
	s.mustAwait(s.conn, next)
	if took := time.Since(start); took > s.caps.DeadWaiter+time.Second {
		s.Errorf("a dead waiter was in the way for %v; %v is claimed", took, s.caps.DeadWaiter)
	}
}
