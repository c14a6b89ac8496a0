package locktest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// flaw is a way in which the reference driver can be wrong.
type flaw string

// store is the simplest correct backend that could be thought of: one mutex,
// one condition, and a look at all that has run out with each call. It lives
// as long as its process, and calls itself durable, because it survives what
// the tests call a restart.
type store struct {
	flaw    flaw
	clock   lease.Clock
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each change
	names   map[string]*refName
	counter uint64
	broken  map[lease.Token]bool
}

type refName struct {
	mode        driver.Mode
	permits     int
	grants      []*refClaim
	line        []*refClaim
	closedUntil lease.Instant
}

// refClaim is a request, waiting or granted.
type refClaim struct {
	driver.Request
	place    uint64
	seen     lease.Instant // as a waiter, last
	waits    int           // Waits under way
	token    lease.Token
	since    lease.Instant
	deadline lease.Instant
	resumed  bool
	revoked  bool
	cut      error // it was taken out of a circle
}

const refDeadWaiter = 300 * time.Millisecond

func newStore(f flaw) *store {
	return &store{
		flaw: f, clock: lease.SystemClock(), changed: make(chan struct{}),
		names: map[string]*refName{}, broken: map[lease.Token]bool{},
	}
}

// tidy ends what is over. It says when there will be something again.
func (s *store) tidy(now lease.Instant) (next lease.Instant) {
	next = now.Add(time.Hour)
	for name, n := range s.names {
		for _, g := range slices.Clone(n.grants) {
			if g.deadline >= now {
				next = min(next, g.deadline+1)
				continue
			}
			n.grants = slices.DeleteFunc(n.grants, func(c *refClaim) bool { return c == g })
			if s.flaw != "no lock delay" && g.LockDelay > 0 {
				n.closedUntil = max(n.closedUntil, now.Add(g.LockDelay))
			}
			s.change()
		}
		for _, w := range slices.Clone(n.line) {
			if w.waits > 0 || s.flaw == "dead waiters stay" {
				continue
			}
			if dead := w.seen.Add(refDeadWaiter); dead > now {
				next = min(next, dead)
				continue
			}
			n.line = slices.DeleteFunc(n.line, func(c *refClaim) bool { return c == w })
			s.change()
		}
		if n.closedUntil > now {
			next = min(next, n.closedUntil)
		} else if len(n.grants)+len(n.line) == 0 {
			delete(s.names, name)
			if s.flaw == "tokens forgotten with the name" {
				s.counter = 0
			}
		}
	}
	return next
}

func (s *store) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (n *refName) find(list []*refClaim, holder string) *refClaim {
	for _, c := range list {
		if c.Holder == holder {
			return c
		}
	}
	return nil
}

// fits reports whether a claim can be granted besides the grants.
func (s *store) fits(n *refName, r *driver.Request, now lease.Instant) bool {
	if n.closedUntil > now {
		return false
	}
	limit := max(1, r.Permits)
	if s.flaw == "overlapping grants" {
		limit++
	}
	if len(n.grants) == 0 || r.Mode == driver.Shared && n.grants[0].Mode == driver.Shared {
		return true
	}
	return r.Mode == driver.Exclusive && n.grants[0].Mode == driver.Exclusive && len(n.grants) < limit
}

func (s *store) grant(n *refName, c *refClaim, now lease.Instant) {
	n.line = slices.DeleteFunc(n.line, func(o *refClaim) bool { return o == c })
	if s.flaw != "tokens repeat" || s.counter == 0 {
		s.counter++
	}
	if s.flaw == "value is not shown" {
		c.Value = nil
	}
	c.token, c.since, c.deadline = lease.Token(s.counter), now, now.Add(c.TTL)
	if s.flaw == "expires early" {
		c.deadline = now.Add(c.TTL / 2)
	}
	n.mode, n.grants = c.Mode, append(n.grants, c)
	s.change()
}

// turn reports whether it is the turn of a waiter.
func (s *store) turn(n *refName, w *refClaim, now lease.Instant) bool {
	if len(w.More) > 0 {
		return s.turnOfSeveral(w, now)
	}
	if !s.fits(n, &w.Request, now) {
		return false
	}
	switch s.flaw {
	case "no order":
		return n.line[len(n.line)-1] == w
	case "readers overtake":
		return n.line[0] == w || w.Mode == driver.Shared
	default:
		return n.line[0] == w
	}
}

func (s *store) answer(c *refClaim, received, now lease.Instant) *driver.Grant {
	g := &driver.Grant{Token: c.token, TTL: c.TTL, Waited: now.Sub(received), Resumed: c.resumed}
	if s.flaw == "waited not told" {
		g.Waited = 0
	}
	return g
}

func (s *store) acquire(r *driver.Request, received lease.Instant) (*driver.Grant, *driver.Ticket, error) {
	if len(r.More) > 0 {
		return s.acquireSeveral(r, received)
	}
	now := s.clock.Now()
	s.tidy(now)
	n := s.names[r.Name]
	if n == nil {
		n = &refName{permits: max(1, r.Permits)}
	}
	if g := n.find(n.grants, r.Holder); g != nil {
		switch {
		case g.ID != r.ID && !r.Resume && s.flaw != "second request accepted":
			return nil, nil, driver.ErrAlreadyHeld
		case g.revoked:
			return nil, nil, lease.ErrRevoked
		}
		g.resumed = g.resumed || g.ID != r.ID
		g.Request = *r
		g.deadline = max(g.deadline, now.Add(r.TTL))
		if s.flaw == "repeat gets a new token" {
			s.counter++
			g.token = lease.Token(s.counter)
		}
		return s.answer(g, received, now), nil, nil
	}
	w := n.find(n.line, r.Holder)
	if w != nil && (w.ID != r.ID && !r.Resume || len(w.More) > 0) {
		return nil, nil, driver.ErrAlreadyHeld
	}
	if s.within(n, r) {
		return nil, nil, driver.ErrAlreadyHeld
	}
	if n.permits != max(1, r.Permits) && s.flaw != "permits disagree" {
		if len(n.grants)+len(n.line) > 0 {
			return nil, nil, lease.ErrConflict
		}
		n.permits = max(1, r.Permits)
	}
	if w == nil { //nolint:nestif // the rule in one place, to be read against the promise
		barging := s.flaw == "newcomers overtake" || s.flaw == "readers overtake" && r.Mode == driver.Shared
		if s.fits(n, r, now) && (len(n.line) == 0 || barging) {
			s.names[r.Name] = n
			c := &refClaim{Request: *r}
			s.grant(n, c, now)
			return s.answer(c, received, now), nil, nil
		}
		if !r.Queue && s.flaw != "try leaves a trace" {
			return nil, nil, driver.ErrHeld
		}
		s.counter++
		w = &refClaim{Request: *r, place: s.counter, since: now}
		if r.Ticket != nil && s.flaw != "tickets forgotten" {
			if _, err := fmt.Sscan(r.Ticket.Opaque, &w.place); err != nil {
				return nil, nil, lease.Invalidf("ticket", "is not one of this backend")
			}
		}
		s.names[r.Name] = n
		n.line = append(n.line, w)
		slices.SortFunc(n.line, func(a, b *refClaim) int { return cmp.Compare(a.place, b.place) })
		s.change()
		if err := s.untangle(w); err != nil {
			return nil, nil, err
		}
	} else if s.flaw == "repeat loses the place" {
		n.line = append(slices.DeleteFunc(n.line, func(o *refClaim) bool { return o == w }), w)
	}
	w.seen = now
	if s.turn(n, w, now) {
		s.grant(n, w, now)
		return s.answer(w, received, now), nil, nil
	}
	if !r.Queue {
		return nil, nil, driver.ErrHeld
	}
	return nil, &driver.Ticket{Opaque: fmt.Sprint(w.place), Position: slices.Index(n.line, w) + 1}, nil
}

// held returns the claim that ref names.
func (s *store) held(r driver.Ref) (*refName, *refClaim) {
	n := s.names[r.Name]
	if n == nil {
		return nil, nil
	}
	g := n.find(n.grants, r.Holder)
	if g == nil || g.token != r.Token && s.flaw != "stale tokens accepted" {
		return n, nil
	}
	return n, g
}

func (s *store) end(n *refName, c *refClaim) {
	same := func(o *refClaim) bool { return o == c }
	n.grants, n.line = slices.DeleteFunc(n.grants, same), slices.DeleteFunc(n.line, same)
	if s.flaw != "nobody is woken" {
		s.change()
	}
}
