package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// Locks decides about all locks.
//
// What is durable of a name is its record: its grants and a lock-delay that
// has begun. Its waiters are in memory, and so is when its grants end. The
// record is written once a round, by Write, so that a release and the grant
// that follows from it are in one batch. It stays, without grants, while a
// free name has waiters whose return is awaited: that is how the next open
// knows that tickets for it are out.
//
// Order. A place in the line has a number, taken from the same counter as the
// tokens, so that it is larger than all before it, also over restarts. The
// line is sorted by it. A ticket carries it, with a code that proves it. A
// returning ticket whose place is gone is put where its number belongs,
// unless somebody behind it has been granted since, or the name was free of
// grants and waiters meanwhile: then it has the last place, with a new number.
//
// Several names. A request for several names has one place, with one number,
// in the lines of all of them, and is granted when it is the head of each and
// fits. So the order is the same in every line, and the one with the smallest
// number of all that wait is the head of all its lines.
//
// Dead waiters. A waiter to whom nobody listens, because its Await has left
// or never came, keeps its place for DeadWaiter since it was last heard of.
// While it is the head of the line and the name is free, the others wait for
// it; then, at the end of the round, it is passed over and forgotten.
//
// After an open all tickets are out. A name that had a record is granted to
// nobody new for DeadWaiter; the tickets that return meanwhile take their
// places, newcomers queue behind them, and a newcomer that does not queue is
// told that the name is held. A name without a record had neither holder nor
// waiter, and is granted at once.
type Locks struct {
	// Finished has the Awaits that are decided; the shell takes them out.
	Finished Finished

	maxNames, maxWaiters int

	tokens  *Tokens
	tickets tickets
	names   map[string]*lockName
	waiters int // on all names
	timers  lockTimers
	broken  brokenTokens
	watches lockWatches

	overdue   []*lockWaiter // whose time without a listener is over
	waits     waitsByHolder
	suspects  suspects    // who may wait in a circle
	searches  uint64      // for circles, so far
	search    cycleSearch // scratch, as are the next two
	found     []*lockName
	taken     []*lockGrant
	dirty     []*lockName
	unwritten int
	scratch   record.Lock
}

// NewLocks returns a Locks without any lock. incarnation keys the tickets.
func NewLocks(tokens *Tokens, incarnation [16]byte) *Locks {
	return &Locks{
		maxNames: MaxLockNames, maxWaiters: MaxLockWaiters,
		tokens:  tokens,
		tickets: newTickets(incarnation),
		names:   make(map[string]*lockName),
		waits:   make(waitsByHolder),
		watches: lockWatches{byName: make(map[string][]*LockWatch)},
		broken:  brokenTokens{known: make(map[lease.Token]struct{})},

		suspects: suspects{known: make(map[string]struct{}), maxSteps: roundCycleSteps},
	}
}

// Restore takes over a name from the store, before the first command. Every
// grant has its full TTL anew, and a lock-delay begins anew. l is not kept.
func (l *Locks) Restore(now Time, name string, r *record.Lock) {
	n := l.add(name)
	n.recorded = true
	n.passed = 0 // tickets from before the open are good
	n.mode, n.permits = r.Mode, max(1, r.Permits)
	for _, rg := range r.Grants {
		g := &lockGrant{LockGrant: rg, ttl: rg.TTL, since: now.Mono, deadline: now.Mono.Add(rg.TTL)}
		n.addGrant(g)
		l.startGrantTimer(n, g)
	}
	if r.ClosedFor > 0 {
		n.closedFor, n.closedUntil = r.ClosedFor, now.Mono.Add(r.ClosedFor)
	}
	n.ticketsUntil = now.Mono.Add(DeadWaiter)
	l.setGate(n)
}

// Tick ends what is over: leases and lock-delays. It comes before the commands
// of a round.
func (l *Locks) Tick(now Time, ch Changes) {
	for t := l.timers.earliest(); t != nil && t.at <= now.Mono; t = l.timers.earliest() {
		l.timers.stop(t)
		switch {
		case t.grant != nil && t.grant.deadline >= now.Mono:
			l.startGrantTimer(t.name, t.grant) // renewed since the timer was set
		case t.grant != nil:
			l.expire(now, ch, t.name, t.grant)
		case t.waiter != nil:
			l.overdue = append(l.overdue, t.waiter)
		default:
			l.openGate(now, ch, t.name)
		}
	}
}

// NextWake says when Tick has something to do next, if ever.
func (l *Locks) NextWake() (lease.Instant, bool) {
	if len(l.suspects.waiters) > 0 {
		return 0, true
	}
	if t := l.timers.earliest(); t != nil {
		return t.at, true
	}
	return 0, false
}

// Write ends a round: dead waiters lose their places, and what has changed is
// put into the batch. A waiter is not dead before the commands of the round
// have been passed: if the engine was held up, its Await may be among them.
func (l *Locks) Write(now Time, ch Changes) {
	for i, w := range l.overdue {
		l.overdue[i] = nil
		if w.inLine() && w.await == nil && w.timer.place == 0 {
			l.leaveLine(now, ch, w)
		}
	}
	l.overdue = l.overdue[:0]
	l.clearSuspects(now, ch)
	for i, n := range l.dirty {
		n.dirty = false
		l.dirty[i] = nil
		switch {
		case n.inUse():
			n.record(&l.scratch)
			ch.PutLock(n.name, &l.scratch)
			n.recorded = true
		case n.recorded:
			ch.DeleteLock(n.name)
			n.recorded = false
			fallthrough
		default:
			assert(n.gate.place == 0, "a name that is forgotten has no timer")
			delete(l.names, n.name)
		}
	}
	l.dirty = l.dirty[:0]
	l.unwritten = 0
	clear(l.scratch.Grants) // they refer to metadata
	l.tell(now)
}

// Unwritten estimates the bytes that Write will add to the batch.
func (l *Locks) Unwritten() int { return l.unwritten }

// Knows reports whether the holder has a grant on the name, or a place in its
// line.
func (l *Locks) Knows(name, holder string) bool {
	n := l.names[name]
	return n != nil && (n.grantOf(holder) != nil || n.line.byHolder[holder] != nil)
}

// Count returns how many names are in use, and how many waiters there are.
func (l *Locks) Count() (names, waiters int) { return len(l.names), l.waiters }

// add makes the state of a name. A ticket issued before is of an earlier use.
func (l *Locks) add(name string) *lockName {
	n := &lockName{name: name, permits: 1, passed: l.tokens.last}
	n.gate.name = n
	l.names[name] = n
	return n
}

// touch marks the name's record as not what it should be.
func (l *Locks) touch(n *lockName) {
	l.change(n)
	if !n.dirty {
		n.dirty = true
		l.dirty = append(l.dirty, n)
		l.unwritten += n.recordSize()
	}
}

// setGate starts the timer for the later of what keeps the name closed.
func (l *Locks) setGate(n *lockName) {
	l.timers.set(&n.gate, max(n.closedUntil, n.ticketsUntil))
}

func (l *Locks) openGate(now Time, ch Changes, n *lockName) {
	delayed := n.closedFor != 0
	n.ticketsUntil, n.closedUntil, n.closedFor = 0, 0, 0
	if delayed || !n.inUse() {
		l.touch(n)
	}
	l.advance(now, ch, n)
}

// brokenTokens remembers the last maxBrokenTokens tokens whose grants an
// operator broke.
type brokenTokens struct {
	known map[lease.Token]struct{}
	order []lease.Token
	next  int
}

func (b *brokenTokens) add(t lease.Token) {
	if len(b.order) < maxBrokenTokens {
		b.order = append(b.order, t)
	} else {
		delete(b.known, b.order[b.next])
		b.order[b.next] = t
		b.next = (b.next + 1) % maxBrokenTokens
	}
	b.known[t] = struct{}{}
}

func (b *brokenTokens) has(t lease.Token) bool {
	_, ok := b.known[t]
	return ok
}

// assert panics if what the code relies on does not hold.
func assert(ok bool, what string) {
	if !ok {
		panic(fmt.Sprintf("machine: broken invariant: %s", what))
	}
}
