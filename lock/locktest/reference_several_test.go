package locktest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Several names and deadlocks of the reference driver: everything is looked
// at with each call, by the plainest means.

// nameOf returns the state of a name, which need not be in use.
func (s *store) nameOf(name string, permits int) *refName {
	if n := s.names[name]; n != nil {
		return n
	}
	return &refName{permits: max(1, permits)}
}

func (s *store) acquireSeveral(r *driver.Request, received lease.Instant) (*driver.Grant, *driver.Ticket, error) {
	now := s.clock.Now()
	s.tidy(now)
	held, free := 0, true
	var w *refClaim
	for i := range r.Names() {
		n := s.nameOf(r.NameAt(i), r.Permits)
		if g := n.find(n.grants, r.Holder); g != nil {
			if g.ID != r.ID && !r.Resume {
				return nil, nil, driver.ErrAlreadyHeld
			}
			held++
			continue
		}
		if o := n.find(n.line, r.Holder); o != nil {
			if o.ID != r.ID || o.Name != r.Name || !slices.Equal(o.More, r.More) {
				return nil, nil, driver.ErrAlreadyHeld
			}
			w = o
		}
		if s.within(n, r) {
			return nil, nil, driver.ErrAlreadyHeld
		}
		if n.permits != max(1, r.Permits) {
			return nil, nil, lease.ErrConflict
		}
		free = free && s.fits(n, r, now) && len(n.line) == 0
	}
	switch {
	case held == r.Names():
		return s.extendSeveral(r, received, now), nil, nil
	case held > 0:
		return nil, nil, lease.ErrNotHeld
	case w == nil && (free || s.flaw == "half of a set" && r.Queue):
		return s.grantSeveral(r, received, now), nil, nil
	case w == nil && !r.Queue:
		return nil, nil, driver.ErrHeld
	case w == nil:
		var err error
		if w, err = s.joinSeveral(r, now); err != nil {
			return nil, nil, err
		}
	}
	w.seen = now
	if s.turnOfSeveral(w, now) {
		return s.grantSeveral(r, received, now), nil, nil
	}
	return nil, &driver.Ticket{Opaque: fmt.Sprint(w.place), Position: 1}, nil
}

func (s *store) joinSeveral(r *driver.Request, now lease.Instant) (*refClaim, error) {
	s.counter++
	w := &refClaim{Request: *r, place: s.counter, since: now}
	if r.Ticket != nil && s.flaw != "tickets forgotten" {
		if _, err := fmt.Sscan(r.Ticket.Opaque, &w.place); err != nil {
			return nil, lease.Invalidf("ticket", "is not one of this backend")
		}
	}
	for i := range r.Names() {
		n := s.nameOf(r.NameAt(i), r.Permits)
		s.names[r.NameAt(i)] = n
		n.line = append(n.line, w)
		if s.flaw == "each line has its order" && i%2 == 1 {
			n.line = slices.Insert(n.line[:len(n.line)-1], 0, w)
			continue
		}
		if s.flaw != "each line has its order" {
			slices.SortFunc(n.line, func(a, b *refClaim) int { return cmp.Compare(a.place, b.place) })
		}
	}
	s.change()
	return w, s.untangle(w)
}

func (s *store) turnOfSeveral(w *refClaim, now lease.Instant) bool {
	for i := range w.Names() {
		n := s.names[w.NameAt(i)]
		if n == nil || len(n.line) == 0 || n.line[0] != w || !s.fits(n, &w.Request, now) {
			return false
		}
	}
	return true
}

func (s *store) grantSeveral(r *driver.Request, received, now lease.Instant) *driver.Grant {
	for i := range r.Names() {
		n := s.nameOf(r.NameAt(i), r.Permits)
		s.names[r.NameAt(i)] = n
		if w := n.find(n.line, r.Holder); w != nil {
			n.line = slices.DeleteFunc(n.line, func(o *refClaim) bool { return o == w })
		}
		if s.flaw == "half of a set" && !s.fits(n, r, now) {
			continue
		}
		c := &refClaim{Request: *r}
		c.Name, c.More = r.NameAt(i), nil
		s.grant(n, c, now)
	}
	return s.extendSeveral(r, received, now)
}

func (s *store) extendSeveral(r *driver.Request, received, now lease.Instant) *driver.Grant {
	out := &driver.Grant{TTL: r.TTL, Waited: now.Sub(received)}
	for i := range r.Names() {
		token := lease.Token(0)
		n := s.nameOf(r.NameAt(i), r.Permits)
		if g := n.find(n.grants, r.Holder); g != nil {
			g.deadline = max(g.deadline, now.Add(r.TTL))
			token = g.token
		}
		if i == 0 {
			out.Token = token
		} else {
			out.More = append(out.More, token)
		}
	}
	return out
}

// within reports whether a request would wait for what is held around it.
func (s *store) within(n *refName, r *driver.Request) bool {
	if n.permits > 1 || s.flaw == "reentrance waits" {
		return false
	}
	return slices.ContainsFunc(r.Within, func(holder string) bool { return n.find(n.grants, holder) != nil })
}

// wait is that a waiter waits for another.
type wait struct {
	by, on *refClaim
	told   driver.Waiting
	under  string // the holder under which on is in the way
}

// waits returns all that w waits for.
func (s *store) waits(w *refClaim) []wait {
	var out []wait
	add := func(on *refClaim, name, under string, behind bool) {
		out = append(out, wait{w, on, driver.Waiting{Holder: w.Holder, Name: name, Behind: behind}, under})
	}
	for i := range w.Names() {
		name := w.NameAt(i)
		n := s.names[name]
		for _, ahead := range n.line {
			if ahead == w || s.flaw == "the line is not looked at" {
				break
			}
			add(ahead, name, ahead.Holder, true)
		}
		for _, g := range n.grants {
			if n.permits > 1 && s.flaw != "semaphores make circles" || w.Mode == driver.Shared && g.Mode == driver.Shared {
				continue
			}
			for _, other := range s.names {
				for _, o := range other.line {
					if o.Holder == g.Holder || slices.Contains(o.Within, g.Holder) {
						add(o, name, g.Holder, false)
					}
				}
			}
		}
	}
	return out
}

// circle returns the shortest circle of waits through w.
func (s *store) circle(w *refClaim) []wait {
	paths := [][]wait{nil}
	seen := map[*refClaim]bool{}
	for ; len(paths) > 0; paths = paths[1:] {
		at := w
		if n := len(paths[0]); n > 0 {
			at = paths[0][n-1].on
		}
		for _, next := range s.waits(at) {
			path := append(slices.Clone(paths[0]), next)
			if next.on == w {
				return path
			}
			if !seen[next.on] {
				seen[next.on] = true
				paths = append(paths, path)
			}
		}
	}
	return nil
}

// untangle cuts the circles through w, and returns an error if w is cut.
func (s *store) untangle(w *refClaim) error {
	for s.flaw != "deadlocks stay" {
		circle := s.circle(w)
		if circle == nil {
			return nil
		}
		victim, cut := w, &driver.DeadlockError{}
		owner := circle[len(circle)-1].under
		for _, wait := range circle {
			wait.told.Owner, owner = owner, wait.under
			cut.Cycle = append(cut.Cycle, wait.told)
			if older := wait.by.place < victim.place; older == (s.flaw == "the oldest is cut") {
				victim = wait.by
			}
		}
		victim.cut = cut
		for i := range victim.Names() {
			s.end(s.names[victim.NameAt(i)], victim)
		}
		if victim == w {
			return cut
		}
	}
	return nil
}
