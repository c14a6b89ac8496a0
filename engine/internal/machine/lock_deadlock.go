package machine

import (
	"slices"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Deadlocks. A waiter waits for the grants of a plain lock that it does not
// fit beside, and each of those stays for as long as a request waits under
// its holder: as that holder's own, or within it. It also waits for those
// ahead of it in the line, because the line is not overtaken. Of these only
// the ones that wait for several names matter, and a newcomer whose old ticket
// puts it before others: what one that waits for the same single name waits
// for, is waited for by all behind it anyway.
//
// A circle comes about when somebody joins a line, and it goes through the
// newcomer; so it is looked for then, which costs one look at the holder's
// waits as long as holders do not wait. It also can when a holder is granted
// something while it waits elsewhere: then its waits are looked at when the
// round ends. Semaphores have no wait for their grants in this: any one of
// them could end it.

// Bounds on the searches. What one search does not find stays; a search that
// does not fit into its round is made in the next.
const (
	maxCycleSteps   = 10_000  // of one search
	roundCycleSteps = 100_000 // of all that begin in a round
)

// waitLink is a waiter in the list of a holder.
type waitLink struct {
	holder     string
	waiter     *lockWaiter
	prev, next *waitLink
}

// waitsByHolder are the waiters under each holder.
type waitsByHolder map[string]*waitLink

func (m waitsByHolder) add(w *lockWaiter) {
	m.link(&w.own, w, w.holder)
	if len(w.within) == 0 {
		w.around = nil
		return
	}
	w.around = make([]waitLink, len(w.within))
	for i, holder := range w.within {
		m.link(&w.around[i], w, holder)
	}
}

func (m waitsByHolder) link(k *waitLink, w *lockWaiter, holder string) {
	*k = waitLink{holder: holder, waiter: w, next: m[holder]}
	if k.next != nil {
		k.next.prev = k
	}
	m[holder] = k
}

func (m waitsByHolder) remove(w *lockWaiter) {
	m.unlink(&w.own)
	for i := range w.around {
		m.unlink(&w.around[i])
	}
}

func (m waitsByHolder) unlink(k *waitLink) {
	if k.next != nil {
		k.next.prev = k.prev
	}
	switch {
	case k.prev != nil:
		k.prev.next = k.next
	case k.next != nil:
		m[k.holder] = k.next
	default:
		delete(m, k.holder)
	}
	k.prev, k.next = nil, nil
}

// suspects are the waiters that are to be looked at: at the end of this round,
// or in a later one.
type suspects struct {
	holders []string // whose waits are, at the end of this round
	known   map[string]struct{}
	waiters []*lockWaiter // each once, see lockWaiter.suspect

	steps, maxSteps int // of all searches in this round
}

// suspect has the waits of a holder looked at when the round ends.
func (l *Locks) suspect(holder string) {
	if l.waits[holder] == nil {
		return
	}
	s := &l.suspects
	if _, known := s.known[holder]; !known {
		s.known[holder] = struct{}{}
		s.holders = append(s.holders, holder)
	}
}

func (s *suspects) add(w *lockWaiter) {
	if !w.suspect {
		w.suspect = true
		s.waiters = append(s.waiters, w)
	}
}

func (s *suspects) forgetHolders() {
	if len(s.holders) > maxCycleSteps { // clear costs as much as the map was ever large
		s.holders, s.known = nil, make(map[string]struct{})
		return
	}
	clear(s.holders)
	s.holders = s.holders[:0]
	clear(s.known)
}

// clearSuspects looks at them, as far as the steps of the round go.
func (l *Locks) clearSuspects(now Time, ch Changes) {
	s := &l.suspects
	for more := true; more; more = len(s.holders) > 0 { // there may be some again
		for _, holder := range s.holders {
			for k := l.waits[holder]; k != nil; k = k.next {
				s.add(k.waiter)
			}
		}
		s.forgetHolders()
		done := 0
		for ; done < len(s.waiters) && s.steps < s.maxSteps; done++ {
			w := s.waiters[done]
			w.suspect = false
			_ = l.untangle(now, ch, w) // w was told, if it listens
		}
		s.waiters = slices.Delete(s.waiters, 0, done)
	}
	s.steps = 0
}

// untangle takes the youngest waiter out of each circle that goes through w,
// and returns the error if that was w.
func (l *Locks) untangle(now Time, ch Changes, w *lockWaiter) error {
	for w.inLine() {
		if l.suspects.steps >= l.suspects.maxSteps {
			l.suspects.add(w)
			return nil
		}
		youngest, err := l.cycle(w)
		if youngest == nil {
			return nil
		}
		l.dismiss(youngest, err)
		l.leaveLine(now, ch, youngest)
		if youngest == w {
			return err
		}
	}
	return nil
}

// cycle looks for a circle through w, and returns its youngest waiter.
func (l *Locks) cycle(w *lockWaiter) (*lockWaiter, error) {
	l.searches++
	s := &l.search
	*s = cycleSearch{locks: l, goal: w, youngest: w, left: maxCycleSteps, path: s.path[:0]}
	found := s.from(w, "")
	l.suspects.steps += 1 + maxCycleSteps - s.left
	if !found {
		return nil, nil
	}
	n := len(s.path)
	out := &lockdriver.DeadlockError{Cycle: make([]lockdriver.Waiting, n)}
	for i, wait := range s.path { // it was filled from its end
		out.Cycle[n-1-i] = wait
	}
	out.Cycle[0].Owner = s.owner
	return s.youngest, out
}

// cycleSearch is one search through the waits, depth first.
type cycleSearch struct {
	locks    *Locks
	goal     *lockWaiter
	youngest *lockWaiter
	owner    string // under whom the goal was found
	left     int
	depth    int
	path     []lockdriver.Waiting
}

// from goes on to all that w, a wait of owner, waits for, and reports whether
// the goal was among what it came to.
func (s *cycleSearch) from(w *lockWaiter, owner string) bool {
	for _, n := range w.names {
		if s.left--; s.left <= 0 {
			return false
		}
		if s.holdsUp(n, w) && s.throughGrants(n) {
			return s.found(w, owner, n, false)
		}
		if s.goal.names[0] == n && len(s.goal.names) == 1 && s.goal.seq < w.seq {
			s.owner = s.goal.holder
			return s.found(w, owner, n, true)
		}
		for _, ahead := range n.line.several {
			if ahead.seq >= w.seq || s.left <= 0 {
				break
			}
			if s.visit(ahead, ahead.holder) {
				return s.found(w, owner, n, true)
			}
		}
	}
	return false
}

// under reports whether w is a wait of the holder.
func (w *lockWaiter) under(holder string) bool {
	return w.holder == holder || slices.Contains(w.within, holder)
}

// throughGrants goes on to all that wait under the holders of n.
func (s *cycleSearch) throughGrants(n *lockName) bool {
	for _, g := range n.grants {
		if s.left--; s.left <= 0 {
			return false
		}
		if s.goal.under(g.Holder) { // which may have more waits than can be looked at
			s.owner = g.Holder
			return true
		}
		for k := s.locks.waits[g.Holder]; k != nil && s.left > 0; k = k.next {
			if s.visit(k.waiter, g.Holder) {
				return true
			}
		}
	}
	return false
}

func (s *cycleSearch) visit(w *lockWaiter, owner string) bool {
	if w == s.goal {
		s.owner = owner
		return true
	}
	s.left--
	if w.seen == s.locks.searches || s.left <= 0 || s.depth >= lockdriver.MaxCycle-1 {
		return false
	}
	w.seen = s.locks.searches
	s.depth++
	defer func() { s.depth-- }()
	return s.from(w, owner)
}

func (s *cycleSearch) found(w *lockWaiter, owner string, n *lockName, behind bool) bool {
	s.path = append(s.path, lockdriver.Waiting{Owner: owner, Holder: w.holder, Name: n.name, Behind: behind})
	if w.seq > s.youngest.seq {
		s.youngest = w
	}
	return true
}

// holdsUp reports whether w waits for the grants of n: it cannot be live
// beside them, or somebody ahead of it in the line cannot.
func (s *cycleSearch) holdsUp(n *lockName, w *lockWaiter) bool {
	if n.permits > 1 || len(n.grants) == 0 {
		return false
	}
	if w.mode == lockdriver.Exclusive || n.mode == lockdriver.Exclusive {
		return true
	}
	for _, ahead := range n.line.all() {
		s.left--
		if ahead.seq >= w.seq || s.left <= 0 {
			return false
		}
		if ahead.mode == lockdriver.Exclusive {
			return true
		}
	}
	return false
}
