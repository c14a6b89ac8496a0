package locktest

import (
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var repeatCases = []testCase{
	{"repeat_gets_the_same_grant", repeatGrant},
	{"repeat_keeps_the_place", repeatPlace},
	{"second_request_is_refused", alreadyHeld},
	{"resume", resume},
	{"repeat_after_release_is_granted_anew", repeatAfterRelease},
}

func repeatGrant(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	for _, c := range []driver.Conn{s.conn, s.open()} { // a client may have reconnected
		again := *r
		if got := s.grant(c, &again); got.Token != g.Token {
			s.Errorf("the repeat got token %d, the first %d", got.Token, g.Token)
		}
	}
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 {
		s.Errorf("List says %+v after repeats; want one grant", in)
	}
}

func repeatPlace(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	a, b := s.queued("a"), s.queued("b")
	s.line(s.conn, a)
	s.line(s.conn, b)
	lost := s.queued("a") // the ticket was in the reply that was lost
	s.line(s.conn, lost)
	s.line(s.conn, a) // and with the ticket
	in := s.info(s.name)
	if in == nil || in.Waiting != 2 {
		s.Fatalf("List says %+v after repeats; want two waiters", in)
	}
	if s.caps.FIFO && in.Waiters[0].Holder != "a" {
		s.Errorf("the line is %+v after repeats; want a at its head", in.Waiters)
	}
	s.release(s.conn, ref(r, g))
	ga := s.mustAwait(s.conn, a)
	if again := s.mustAwait(s.conn, a); again.Token != ga.Token {
		s.Errorf("the repeat got token %d, the first %d", again.Token, ga.Token)
	}
	s.release(s.conn, ref(a, ga))
	gb := s.mustAwait(s.conn, b)
	if s.caps.FIFO && gb.Token <= ga.Token {
		s.Errorf("the second of the line got token %d, the first %d", gb.Token, ga.Token)
	}
}

func alreadyHeld(s *suite) {
	r := s.request("holder")
	s.grant(s.conn, r)
	waiter := s.queued("waiter")
	s.line(s.conn, waiter)
	for _, holder := range []string{"holder", "waiter"} {
		for _, queue := range []bool{false, true} {
			other := s.request(holder)
			other.ID, other.Queue = "another", queue
			_, _, err := s.conn.Acquire(s.ctx, other)
			s.refused("another request of the "+holder, err, driver.ErrAlreadyHeld)
		}
	}
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 || in.Waiting != 1 {
		s.Errorf("List says %+v after refused requests; want one grant and one waiter", in)
	}
}

func resume(s *suite) {
	r := s.request("holder")
	r.Resume = true
	if s.lacks(s.caps.Resume, r) {
		return
	}
	r.Resume = false
	g := s.grant(s.conn, r)
	again := s.request("holder")
	again.ID, again.Resume = "after the restart", true
	taken := s.grant(s.open(), again)
	if taken.Token != g.Token || !taken.Resumed {
		s.Errorf("Resume got %+v; want Resumed and token %d", *taken, g.Token)
	}
	// The request that made the grant can undo it no more.
	if err := s.conn.Cancel(s.ctx, r); err != nil {
		s.Errorf("Cancel of the request before: %v", err)
	}
	if err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(again, taken)})); err != nil {
		s.Errorf("Renew of the resumed grant: %v", err)
	}
	s.release(s.conn, ref(again, taken))
	fresh := s.grant(s.conn, again)
	if fresh.Resumed || fresh.Token <= g.Token {
		s.Errorf("Resume of nothing got %+v; want a grant of its own after token %d", *fresh, g.Token)
	}
}

// repeatAfterRelease: what was released is over, whoever asks.
func repeatAfterRelease(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	s.release(s.conn, ref(r, g))
	s.refused("Release again", one(s.conn.Release(s.ctx, []driver.Ref{ref(r, g)})), lease.ErrNotHeld)
	if again := s.grant(s.conn, r); again.Token <= g.Token {
		s.Errorf("token %d granted after %d", again.Token, g.Token)
	}
}
