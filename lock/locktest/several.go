package locktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var severalCases = []testCase{
	{"several_names_all_or_nothing", severalAllOrNothing},
	{"several_names_wait_in_every_line", severalFIFO},
	{"several_names_do_not_wait_in_a_circle", severalCircle},
	{"several_names_under_load", severalLoad},
	{"several_names_repeat", severalRepeat},
	{"several_names_cancel", severalCancel},
	{"several_names_dead_waiter_is_passed", severalDead},
	{"several_names_restart", severalRestart},
	{"several_names_limit", severalLimit},
	{"lease_set_ends_with_its_first_lost_lease", leaseSetEnds},
	{"lease_set_lets_one_go", leaseSetLetsOneGo},
}

// several is a queued request for the case's names with these suffixes.
func (s *suite) several(holder string, suffixes ...string) *driver.Request {
	r := s.queued(holder)
	r.Name = s.name + "/" + suffixes[0]
	for _, suffix := range suffixes[1:] {
		r.More = append(r.More, s.name+"/"+suffix)
	}
	return r
}

// refs names the grants of a request.
func refs(r *driver.Request, g *driver.Grant) []driver.Ref {
	out := make([]driver.Ref, r.Names())
	for i := range out {
		out[i] = driver.Ref{Name: r.NameAt(i), Holder: r.Holder, Token: g.TokenAt(i), TTL: r.TTL}
	}
	return out
}

// releaseAll releases grants that must be live.
func (s *suite) releaseAll(c driver.Conn, r *driver.Request, g *driver.Grant) {
	s.Helper()
	outcomes, err := c.Release(s.ctx, refs(r, g))
	if err != nil {
		s.Fatalf("Release by %s: %v", r.Holder, err)
	}
	for i, o := range outcomes {
		if o.Err != nil {
			s.Fatalf("Release of %q by %s: %v", r.NameAt(i), r.Holder, o.Err)
		}
	}
}

// holds checks that the grants of a request, and no others, are live.
func (s *suite) holds(r *driver.Request, g *driver.Grant) {
	s.Helper()
	if len(g.More) != len(r.More) {
		s.Fatalf("a grant with %d tokens for %d names", 1+len(g.More), r.Names())
	}
	for i := range r.Names() {
		in := s.info(r.NameAt(i))
		if in == nil || len(in.Grants) != 1 || in.Grants[0].Holder != r.Holder || in.Grants[0].Token != g.TokenAt(i) || g.TokenAt(i) == 0 {
			s.Errorf("List says %+v of %q; want the grant of %s with token %d", in, r.NameAt(i), r.Holder, g.TokenAt(i))
		}
	}
}

// severalAllOrNothing: while one of the names is held the others are not
// granted, to nobody; then all are, each with a token.
func severalAllOrNothing(s *suite) {
	all := s.several("all", "a", "b", "c")
	if s.lacks(s.caps.Multi, all) {
		return
	}
	one := s.several("one", "b")
	g := s.grant(s.conn, one)
	try := *all
	try.Queue = false
	_, _, err := s.conn.Acquire(s.ctx, &try)
	s.refused("a try at names of which one is held", err, driver.ErrHeld)
	if in := s.info(all.Name); in != nil {
		s.Errorf("the refused try left %+v", *in)
	}
	s.line(s.conn, all)
	for _, name := range []string{all.Name, all.More[1]} {
		if in := s.info(name); in == nil || len(in.Grants) != 0 || in.Waiting != 1 {
			s.Errorf("List says %+v of the free %q; want the waiter and no grant", in, name)
		}
	}
	s.releaseAll(s.conn, one, g)
	ga := s.mustAwait(s.conn, all)
	s.holds(all, ga)
	if ga.More[0] <= g.Token {
		s.Errorf("token %d granted after %d", ga.More[0], g.Token)
	}
	outcomes, err := s.conn.Renew(s.ctx, refs(all, ga))
	if err != nil || len(outcomes) != 3 || outcomes[0].Err != nil || outcomes[1].Err != nil || outcomes[2].Err != nil {
		s.Errorf("Renew of the three: %+v, %v", outcomes, err)
	}
	// They are released one by one as well.
	s.release(s.conn, refs(all, ga)[1])
	again := s.several("two", "b")
	s.releaseAll(s.conn, again, s.grant(s.conn, again))
	_, _, err = s.conn.Acquire(s.ctx, all)
	s.refused("a repeat of which one grant has ended", err, lease.ErrNotHeld)
}

// severalFIFO: a request for several names and those for one are granted in
// the order in which they came, also where a name is free.
func severalFIFO(s *suite) {
	all := s.several("all", "a", "b")
	if s.lacks(s.caps.Multi, all) {
		return
	}
	first := s.several("first", "b")
	g := s.grant(s.conn, first)
	s.line(s.conn, all)
	later := s.several("later", "a")
	if !s.caps.FIFO {
		s.releaseAll(s.conn, first, g)
		s.mustAwait(s.conn, all)
		return
	}
	try := *later
	try.Queue = false
	_, _, err := s.conn.Acquire(s.ctx, &try)
	s.refused("a try at a free name that somebody waits for", err, driver.ErrHeld)
	s.line(s.conn, later)
	waited := make(chan *driver.Grant, 1)
	go func() {
		g, err := await(s.ctx, s.conn, later)
		if err != nil {
			s.Errorf("the later one: %v", err)
		}
		waited <- g
	}()
	s.releaseAll(s.conn, first, g)
	ga := s.mustAwait(s.conn, all)
	s.holds(all, ga)
	s.releaseAll(s.conn, all, ga)
	if gl := <-waited; gl != nil && gl.Token <= ga.Token {
		s.Errorf("token %d granted after %d", gl.Token, ga.Token)
	}
}

// severalCircle: two that want each other's names are granted one after the
// other, however they came into the lines.
func severalCircle(s *suite) {
	x, y := s.several("x", "a", "b", "c"), s.several("y", "b", "c", "d")
	if s.lacks(s.caps.Multi, x) {
		return
	}
	first, second := s.several("first", "b"), s.several("second", "c")
	g1, g2 := s.grant(s.conn, first), s.grant(s.conn, second)
	s.line(s.conn, x)
	s.line(s.conn, y)
	done := make(chan string, 2)
	for _, r := range []*driver.Request{x, y} {
		go func() {
			g, err := await(s.ctx, s.conn, r)
			if err == nil {
				_, err = s.conn.Release(s.ctx, refs(r, g))
			}
			if err != nil {
				s.Errorf("%s: %v", r.Holder, err)
			}
			done <- r.Holder
		}()
	}
	s.releaseAll(s.conn, second, g2)
	s.releaseAll(s.conn, first, g1)
	if a, b := <-done, <-done; a == b {
		s.Errorf("%s came twice", a)
	}
}

// severalLoad: clients that take overlapping sets, named in any order, all
// come through, and never two of them to one name.
func severalLoad(s *suite) {
	if s.lacks(s.caps.Multi, s.several("all", "a", "b")) {
		return
	}
	const clients, rounds, names = 6, 15, 5
	var inside [names]atomic.Int32
	var wg sync.WaitGroup
	for i := range clients {
		l := s.locker()
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for range rounds {
				which := rng.Perm(names)[:1+rng.IntN(3)]
				wanted := make([]string, len(which))
				for j, n := range which {
					wanted[j] = fmt.Sprint(s.name, "/", n)
				}
				set, err := l.AcquireAll(s.ctx, wanted, nil)
				if err != nil {
					s.Errorf("AcquireAll: %v", err)
					return
				}
				for _, n := range which {
					if inside[n].Add(1) > 1 {
						s.Errorf("two hold name %d", n)
					}
				}
				for _, n := range which {
					inside[n].Add(-1)
				}
				if err := set.Release(s.ctx); err != nil {
					s.Errorf("Release: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func severalRepeat(s *suite) {
	all := s.several("all", "a", "b")
	if s.lacks(s.caps.Multi, all) {
		return
	}
	g := s.grant(s.conn, all)
	if again := s.grant(s.conn, all); again.Token != g.Token || !slices.Equal(again.More, g.More) {
		s.Errorf("a repeat got tokens %d %d after %d %d", again.Token, again.More, g.Token, g.More)
	}
	other := *all
	other.ID = "other"
	_, _, err := s.conn.Acquire(s.ctx, &other)
	s.refused("a second request of the holder", err, driver.ErrAlreadyHeld)

	waiter := s.several("waiter", "b", "c")
	s.line(s.conn, waiter)
	s.line(s.conn, waiter)
	if in := s.info(waiter.More[0]); in == nil || in.Waiting != 1 {
		s.Errorf("List says %+v after a repeat; want one waiter", in)
	}
	overlapping := s.several("waiter", "c", "d")
	overlapping.ID = waiter.ID
	_, _, err = s.conn.Acquire(s.ctx, overlapping)
	s.refused("a request for other names of a holder that waits", err, driver.ErrAlreadyHeld)
	s.releaseAll(s.conn, all, g)
	s.holds(waiter, s.mustAwait(s.conn, waiter))
}

func severalCancel(s *suite) {
	gone := s.several("gone", "a", "b")
	if s.lacks(s.caps.Multi, gone) {
		return
	}
	first, next := s.several("first", "b"), s.several("next", "a")
	g := s.grant(s.conn, first)
	s.line(s.conn, gone)
	s.line(s.conn, next)
	if err := s.conn.Cancel(s.ctx, gone); err != nil {
		s.Fatalf("Cancel: %v", err)
	}
	s.mustAwait(s.conn, next) // a is free, and nobody is ahead any more
	if in := s.info(first.Name); in == nil || in.Waiting != 0 {
		s.Errorf("List says %+v after Cancel; want no waiter", in)
	}
	s.releaseAll(s.conn, first, g)

	granted := s.several("granted", "b", "c")
	s.grant(s.conn, granted)
	if err := s.conn.Cancel(s.ctx, granted); err != nil {
		s.Fatalf("Cancel: %v", err)
	}
	s.grant(s.conn, s.several("last", "b", "c"))
}

func severalDead(s *suite) {
	all := s.several("dead", "a", "b", "c")
	if s.lacks(s.caps.Multi, all) {
		return
	}
	first := s.several("first", "b")
	s.grant(s.conn, first)
	s.line(s.conn, all)
	next := s.several("next", "a", "c")
	s.line(s.conn, next)
	start := time.Now()
	s.holds(next, s.mustAwait(s.conn, next))
	if took := time.Since(start); took > s.caps.DeadWaiter+time.Second {
		s.Errorf("a dead waiter was in the way for %v; %v is claimed", took, s.caps.DeadWaiter)
	}
}

// severalRestart: a ticket brings all the places back.
func severalRestart(s *suite) {
	all := s.several("all", "a", "b")
	if s.lacks(s.caps.Multi, all) || s.h.Restart == nil || !s.caps.Durable {
		return
	}
	first := s.several("first", "b")
	g := s.grant(s.conn, first)
	s.line(s.conn, all)
	later := s.several("later", "b")
	s.line(s.conn, later)
	s.h.Restart(s.TB)
	c := s.open()
	s.line(c, later) // it comes back first
	s.line(c, all)
	done := make(chan *driver.Grant, 1)
	go func() {
		g, err := await(s.ctx, c, later)
		if err != nil {
			s.Errorf("the later one: %v", err)
		}
		done <- g
	}()
	s.releaseAll(c, first, g)
	ga := s.mustAwait(c, all)
	outcomes, err := c.Release(s.ctx, refs(all, ga))
	if err != nil || outcomes[0].Err != nil || outcomes[1].Err != nil {
		s.Errorf("Release: %+v, %v", outcomes, err)
	}
	if gl := <-done; gl != nil && gl.Token <= ga.Token {
		s.Errorf("token %d granted after %d: the place was lost", gl.Token, ga.Token)
	}
}

func severalLimit(s *suite) {
	all := s.several("all", "000")
	for i := 1; i < driver.MaxNames; i++ {
		all.More = append(all.More, fmt.Sprintf("%s/%03d", s.name, i))
	}
	if s.lacks(s.caps.Multi, all) {
		return
	}
	g := s.grant(s.conn, all)
	s.holds(all, g)
	s.releaseAll(s.conn, all, g)
	for what, change := range map[string]func(r *driver.Request){
		"one name too many": func(r *driver.Request) { r.More = append(slices.Clone(r.More), r.Name+"/z") },
		"a name twice":      func(r *driver.Request) { r.More = []string{r.Name} },
		"names in disorder": func(r *driver.Request) { r.More = []string{s.name + "/b", s.name + "/a"} },
		"an empty name":     func(r *driver.Request) { r.More = []string{""} },
		"a name too long":   func(r *driver.Request) { r.More = []string{fill(r.Name, driver.MaxName+1)} },
	} {
		r := *all
		change(&r)
		_, _, err := s.conn.Acquire(s.ctx, &r)
		s.refused(what, err, lease.ErrInvalid)
	}
	if in := s.info(all.Name); in != nil {
		s.Errorf("refused requests left %+v", *in)
	}
}

// leaseSetEnds: a set is held as long as all of its leases are.
func leaseSetEnds(s *suite) {
	if s.lacks(s.caps.Multi, s.several("all", "a", "b")) || !s.caps.Break {
		return
	}
	l := s.locker()
	set, err := l.AcquireAll(s.ctx, []string{s.name + "/b", s.name + "/a", s.name + "/b"}, &lock.Options{TTL: s.short})
	if err != nil {
		s.Fatalf("AcquireAll: %v", err)
	}
	if names := set.Names(); !slices.Equal(names, []string{s.name + "/a", s.name + "/b"}) {
		s.Errorf("the set has %q", names)
	}
	if err := s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name + "/b", Break: true}); err != nil {
		s.Fatalf("Revoke: %v", err)
	}
	select {
	case <-set.Context().Done():
	case <-s.ctx.Done():
		s.Fatalf("the context of the set never ended")
	}
	if err := set.Release(s.ctx); !errors.Is(err, lock.ErrNotHeld) {
		s.Errorf("Release of a set that lost a lease: %v", err)
	}
	s.until("the other name is free", func() bool { return s.info(s.name+"/a") == nil })
}

// leaseSetLetsOneGo: a lease that is released by itself is out of its set, of
// which the others are held on.
func leaseSetLetsOneGo(s *suite) {
	if s.lacks(s.caps.Multi, s.several("all", "a", "b")) {
		return
	}
	l := s.locker()
	err := l.DoAll(s.ctx, []string{s.name + "/a", s.name + "/b"}, nil, func(ctx context.Context, set *lock.LeaseSet) error {
		if err := set.Leases()[0].Release(ctx); err != nil {
			return err
		}
		if a, b := s.info(s.name+"/a"), s.info(s.name+"/b"); a != nil || b == nil || len(b.Grants) != 1 {
			s.Errorf("after the release of a: %+v and %+v", a, b)
		}
		return errors.Join(ctx.Err(), set.Check())
	})
	if err != nil {
		s.Errorf("DoAll: %v", err)
	}
	if in := s.info(s.name + "/b"); in != nil {
		s.Errorf("after DoAll: %+v", *in)
	}
}
