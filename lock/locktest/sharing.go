package locktest

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var sharingCases = []testCase{
	{"shared_holders_together", sharedTogether},
	{"writer_is_not_starved", writerNotStarved},
	{"permits", permits},
	{"permits_mismatch_is_a_conflict", permitsMismatch},
}

// shared is a queued request for a shared grant.
func (s *suite) shared(holder string) *driver.Request {
	r := s.queued(holder)
	r.Mode = driver.Shared
	return r
}

func sharedTogether(s *suite) {
	if s.lacks(s.caps.Shared, s.shared("reader")) {
		return
	}
	a, b := s.shared("a"), s.shared("b")
	ga, gb := s.grant(s.conn, a), s.grant(s.open(), b)
	if gb.Token <= ga.Token {
		s.Errorf("token %d granted after %d", gb.Token, ga.Token)
	}
	_, _, err := s.conn.Acquire(s.ctx, s.request("writer"))
	s.refused("an exclusive try while it is shared", err, driver.ErrHeld)

	writer := s.queued("writer")
	s.line(s.conn, writer)
	s.release(s.conn, ref(a, ga))
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 || in.Grants[0].Mode != driver.Shared {
		s.Errorf("List says %+v; want the one reader that is left", in)
	}
	s.release(s.conn, ref(b, gb))
	gw := s.mustAwait(s.conn, writer)

	try := s.shared("c")
	try.Queue = false
	_, _, err = s.conn.Acquire(s.ctx, try)
	s.refused("a shared try while it is held exclusively", err, driver.ErrHeld)
	s.line(s.conn, a)
	s.line(s.conn, b)
	s.release(s.conn, ref(writer, gw))
	s.mustAwait(s.conn, a)
	s.mustAwait(s.conn, b) // while a holds it
}

// writerNotStarved: readers that come after a waiting writer wait behind it.
func writerNotStarved(s *suite) {
	first := s.shared("reader 0")
	if s.lacks(s.caps.Shared, first) {
		return
	}
	g := s.grant(s.conn, first)
	writer := s.queued("writer")
	s.line(s.conn, writer)
	granted := make(chan error, 1)
	go func() {
		gw, err := await(s.ctx, s.conn, writer)
		if err == nil {
			err = one(s.conn.Release(s.ctx, []driver.Ref{ref(writer, gw)}))
		}
		granted <- err
	}()
	late := s.shared("reader 1")
	if s.caps.FIFO {
		s.line(s.conn, late)
	}
	s.release(s.conn, ref(first, g))
	if err := <-granted; err != nil {
		s.Errorf("the writer: %v", err)
	}
	s.mustAwait(s.conn, late)
}

func permits(s *suite) {
	const n = 3
	permit := func(i int) *driver.Request {
		r := s.queued(fmt.Sprint("holder ", i))
		r.Permits = n
		return r
	}
	if s.lacks(s.caps.Permits, permit(0)) {
		return
	}
	var refs []driver.Ref
	var last lease.Token
	for i := range n {
		r := permit(i)
		g := s.grant(s.conn, r)
		if g.Token <= last {
			s.Errorf("token %d granted after %d", g.Token, last)
		}
		last = g.Token
		refs = append(refs, ref(r, g))
	}
	next := permit(n)
	s.line(s.conn, next)
	if in := s.info(s.name); in == nil || in.Permits != n || len(in.Grants) != n || in.Waiting != 1 {
		s.Errorf("List says %+v; want %d grants of %d permits and one waiter", in, n, n)
	}
	s.release(s.conn, refs[1])
	s.mustAwait(s.conn, next)
}

func permitsMismatch(s *suite) {
	r := s.request("a")
	r.Permits = 2
	if s.lacks(s.caps.Permits, r) {
		return
	}
	g := s.grant(s.conn, r)
	for _, n := range []int{0, 1, 3} {
		for _, queue := range []bool{false, true} {
			other := s.request("b")
			other.Permits, other.Queue = n, queue
			_, _, err := s.conn.Acquire(s.ctx, other)
			s.refused(fmt.Sprintf("%d permits where 2 are in use", n), err, lease.ErrConflict)
		}
	}
	s.release(s.conn, ref(r, g))
	s.grant(s.conn, s.request("b")) // nobody uses it: another number is fine
}
