package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// MaxWaiters bounds the line of a name.
const MaxWaiters = 10_000

// maxRaces is how often a step is made again because another client was faster,
// who got what this one wanted: then a waiter gets in line, or looks again soon.
const maxRaces = 8

// acquiring is one call of Acquire.
type acquiring struct {
	c     *conn
	r     *driver.Request
	claim claim
	began lease.Instant
	order int64 // the place, by the ticket or as it is known; 0: none
	bases []string
	set   string
	races int
}

func (a *acquiring) permits() int { return max(1, a.r.Permits) }

// Acquire implements driver.Conn. It returns a ticket at once.
func (c *conn) Acquire(ctx context.Context, r *driver.Request) (*driver.Grant, *driver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	order, err := readTicket(r.Ticket)
	if err != nil {
		return nil, nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, nil, err
	}
	a := &acquiring{c: c, r: r, claim: claimOf(r), began: c.clock.Now(), order: order, set: setOf(r)}
	for i := range r.Names() {
		a.bases = append(a.bases, c.base(r.NameAt(i)))
	}
	var g *driver.Grant
	var t *driver.Ticket
	if w := c.waiters.find(a.claim); w != nil && r.Queue {
		a.order = w.order
		g, t, err = a.turn(ctx, w.looksFirst())
	} else {
		g, t, err = a.start(ctx)
	}
	if g != nil {
		c.waiters.forget(a.claim)
	}
	if err == nil {
		c.doubts.settle(c, r)
	}
	return g, t, err
}

// again counts a step that is made anew, and reports whether it may be.
func (a *acquiring) again() bool {
	a.races++
	return a.races <= maxRaces
}

// start is an attempt without a place.
func (a *acquiring) start(ctx context.Context) (*driver.Grant, *driver.Ticket, error) {
	var s *snapshot
	for {
		g, seen, err := a.takeFree(ctx, s)
		if err != nil || g != nil {
			return g, nil, err
		}
		s = seen
		if g, t, done, err := a.known(ctx, s); done {
			return g, t, err
		}
		if err := a.conflict(s); err != nil {
			return nil, nil, err
		}
		if !a.open(s) || !a.again() {
			break
		}
	}
	if !a.r.Queue {
		return nil, nil, driver.ErrHeld
	}
	return a.join(ctx, s)
}

// takeFree takes names that nobody holds or awaits; with permits also those
// that have room, as s showed them.
func (a *acquiring) takeFree(ctx context.Context, s *snapshot) (*driver.Grant, *snapshot, error) {
	t := &txn{or: a.lookIfRoom(0)}
	if a.glances() {
		t.or = a.glance()
	}
	for _, base := range a.bases {
		switch {
		case a.permits() > 1 && s != nil:
			t.demands = append(t.demands, noneAfter(base+kindGrant, base+kindPastPlace, s.revision))
		case a.r.Mode == driver.Shared:
			t.demands = append(t.demands, none(base+kindExclusive, base+kindPastPlace),
				absent(grantKey(base, kindShared, a.r.Holder)))
		default:
			t.demands = append(t.demands, none(base+kindGrant, base+kindPastPlace))
		}
	}
	return a.grant(ctx, t, 0)
}

// known finishes an attempt of a request that etcd knows already: it has
// grants, or a place in the line.
func (a *acquiring) known(ctx context.Context, s *snapshot) (g *driver.Grant, t *driver.Ticket, done bool, err error) {
	switch {
	case s.owned() > 0:
		g, err = a.repeat(ctx, s)
		return g, nil, true, err
	case s.waits():
		if err = a.adopt(ctx, s); err != nil {
			return nil, nil, true, err
		}
		if !a.r.Queue {
			return nil, nil, true, driver.ErrHeld
		}
		g, t, err = a.turn(ctx, true)
		return g, t, true, err
	default:
		return nil, nil, false, nil
	}
}

// grant commits a transaction that grants all names if its demands hold, and
// clears the place. Otherwise it returns what it saw.
func (a *acquiring) grant(ctx context.Context, t *txn, order int64) (*driver.Grant, *snapshot, error) {
	r := a.r
	held, err := a.c.leases.take(ctx, r.TTL+r.LockDelay, r.TTL, r.Names())
	if err != nil {
		return nil, nil, err
	}
	record, ttl, err := a.record(held)
	if err != nil {
		a.c.leases.give(held...)
		return nil, nil, err
	}
	var later []clientv3.Op
	for i, base := range a.bases {
		t.then = append(t.then, clientv3.OpPut(grantKey(base, kindOf(r), r.Holder), record, clientv3.WithLease(held[i].id)))
		if order != 0 {
			t.then = append(t.then, clientv3.OpDelete(placeKey(base, order, r.Holder)))
			later = append(later, clientv3.OpDelete(waiterKey(base, r.Holder)))
		}
	}
	if len(t.then)+len(later) <= maxOps {
		t.then, later = append(t.then, later...), nil
	}
	answer, err := a.commit(ctx, t)
	switch {
	case err == nil && answer.Succeeded:
		a.tidy(ctx, later)
		a.note(held, answer.Header.Revision)
		g := &driver.Grant{Token: a.c.dress(answer.Header.Revision), TTL: ttl}
		for range r.More {
			g.More = append(g.More, g.Token)
		}
		return g, nil, nil
	case err == nil:
		a.c.leases.give(held...)
		if order == 0 && a.glances() {
			if s := a.glanced(answer); s != nil {
				return nil, s, nil
			}
			s, err := a.seeNow(ctx, 0)
			return nil, s, err
		}
		s, err := a.seeAfter(ctx, answer, order)
		return nil, s, err
	case errors.Is(err, errLeaseGone):
		for _, l := range held {
			a.c.leases.lose(l.id)
		}
		if a.again() {
			return a.grant(ctx, &txn{demands: t.demands, or: t.or}, order)
		}
		return nil, nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	case errors.Is(err, lease.ErrUnknown):
		a.c.doubts.grant(a.claim, held)
		return nil, nil, err
	default:
		a.c.leases.give(held...)
		return nil, nil, err
	}
}

// note has the releases of grants take the short way. With a lock-delay there
// is none: what is left of it must be looked at.
func (a *acquiring) note(held []*etcdLease, revision int64) {
	if a.r.LockDelay > 0 {
		return
	}
	for i, l := range held {
		a.c.leases.granted(l, &quickGrant{
			id:  grantID{a.r.NameAt(i), a.r.Holder, revision},
			key: grantKey(a.bases[i], kindOf(a.r), a.r.Holder),
		})
	}
}

// commit makes one attempt at a transaction of the request's names.
func (a *acquiring) commit(ctx context.Context, t *txn) (*clientv3.TxnResponse, error) {
	if len(a.bases) > 1 {
		return a.c.commit(ctx, t)
	}
	return a.c.lanes.run(ctx, a.r.Name, t)
}

// tidy deletes what had no room in a grant of very many names. Should it fail,
// the end of the session does it.
func (a *acquiring) tidy(ctx context.Context, ops []clientv3.Op) {
	if len(ops) > 0 {
		_, _ = a.c.commit(ctx, &txn{then: ops})
	}
}

// record returns the record of a grant on leases that were made or renewed
// before, and the TTL that they leave.
func (a *acquiring) record(held []*etcdLease) (text string, ttl time.Duration, err error) {
	r := a.r
	ttl = r.TTL
	for _, l := range held {
		ttl = min(ttl, a.c.leases.left(l, a.began)-r.LockDelay)
	}
	g := &grantRecord{
		Holder: r.Holder, ID: r.ID, TTL: ttl, Delay: r.LockDelay, Seconds: seconds(r.TTL + r.LockDelay),
		Since: time.Now().UnixMilli(), Meta: r.Meta, Value: r.Value,
	}
	if r.Permits > 1 {
		g.Permits = r.Permits
	}
	text, err = g.encode()
	return text, ttl, err
}

// join takes a place at the end of the lines, or the one of the ticket. The
// number of a new place is the revision at which the names were seen in use:
// it grows with time and is known without a second try.
func (a *acquiring) join(ctx context.Context, s *snapshot) (*driver.Grant, *driver.Ticket, error) {
	switch {
	case a.order > s.revision:
		return nil, nil, errTicket // from another store
	case a.order == 0:
		a.order = s.revision
	}
	for i := range s.names {
		if s.names[i].waiting >= MaxWaiters {
			return nil, nil, fmt.Errorf("%d waiters are in line for the name: %w", MaxWaiters, lease.ErrLimit)
		}
	}
	id, err := a.c.session.lease(ctx)
	if err != nil {
		return nil, nil, err
	}
	w := a.place()
	t := &txn{or: a.lookIfRoom(0)}
	for _, base := range a.bases {
		t.demands = append(t.demands, absent(waiterKey(base, a.r.Holder)))
	}
	t.then = a.puts(w, id)
	t.then = append(t.then, a.lookIfRoom(a.order)...)
	answer, err := a.c.commit(ctx, t)
	switch {
	case errors.Is(err, errLeaseGone):
		a.c.session.lost(id)
		if a.again() {
			return a.join(ctx, s)
		}
		return nil, nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	case errors.Is(err, lease.ErrUnknown):
		a.c.doubts.place(a.claim, a.order)
		return nil, nil, err
	case err != nil:
		return nil, nil, err
	case !answer.Succeeded: // another request of this holder was faster
		if s, err = a.seeAfter(ctx, answer, 0); err != nil {
			return nil, nil, err
		}
		if g, t, done, err := a.known(ctx, s); done {
			return g, t, err
		}
		return nil, nil, fmt.Errorf("%w: another request of the holder ended just now", lease.ErrUnavailable)
	}
	a.c.waiters.register(a)
	if s, err = a.seeAfter(ctx, answer, a.order); err != nil {
		return nil, nil, err
	}
	return a.follow(ctx, s)
}

// place is the record of the request's place.
func (a *acquiring) place() *waiterRecord {
	w := &waiterRecord{ID: a.r.ID, Order: a.order, Mode: a.r.Mode, Set: a.set, Since: time.Now().UnixMilli()}
	if a.r.Permits > 1 {
		w.Permits = a.r.Permits
	}
	return w
}

// puts writes a place.
func (a *acquiring) puts(w *waiterRecord, session clientv3.LeaseID) []clientv3.Op {
	text := w.encode()
	var ops []clientv3.Op
	for _, base := range a.bases {
		ops = append(ops, clientv3.OpPut(placeKey(base, w.Order, a.r.Holder), text, clientv3.WithLease(session)),
			clientv3.OpPut(waiterKey(base, a.r.Holder), text, clientv3.WithLease(session)))
	}
	return ops
}

// adopt takes over the place that the holder has: from the request's earlier
// attempt, maybe over another connection, or by Resume from another request.
func (a *acquiring) adopt(ctx context.Context, s *snapshot) error {
	var w *waiterRecord
	t := &txn{}
	stays := true
	for i := range s.names {
		kv := s.names[i].waiter
		if kv == nil {
			return driver.ErrAlreadyHeld // for other names
		}
		found, err := decodeWaiter(kv.Value)
		switch {
		case err != nil:
			return err
		case found.Set != a.set || found.ID != a.r.ID && !a.r.Resume:
			return driver.ErrAlreadyHeld
		case found.permits() != a.permits():
			return a.differs(found.permits())
		case found.Mode != a.r.Mode:
			return fmt.Errorf("the holder waits for it as %v: %w", found.Mode, lease.ErrConflict)
		}
		w = found
		stays = stays && found.ID == a.r.ID && a.c.session.is(clientv3.LeaseID(kv.Lease))
		t.demands = append(t.demands, unchanged(waiterKey(a.bases[i], a.r.Holder), kv.ModRevision))
	}
	a.order = w.Order
	if !stays && a.r.Queue {
		id, err := a.c.session.lease(ctx)
		if err != nil {
			return err
		}
		w.ID = a.r.ID
		t.then = a.puts(w, id)
		answer, err := a.c.commit(ctx, t)
		if errors.Is(err, errLeaseGone) {
			a.c.session.lost(id)
			err = fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
		}
		if err != nil {
			return err
		}
		if !answer.Succeeded {
			return fmt.Errorf("%w: the place has changed just now", lease.ErrUnavailable)
		}
	}
	if a.r.Queue {
		a.c.waiters.register(a)
	}
	return nil
}

// turn is an attempt with a place. looks: it is not likely to be granted, so
// that a look, which nobody has to write down, comes first.
func (a *acquiring) turn(ctx context.Context, looks bool) (*driver.Grant, *driver.Ticket, error) {
	var s *snapshot
	var err error
	if looks || a.permits() > 1 {
		if s, err = a.seeNow(ctx, a.order); err != nil {
			return nil, nil, err
		}
		return a.follow(ctx, s)
	}
	g, s, err := a.takeTurn(ctx, nil)
	if err != nil || g != nil {
		return g, nil, err
	}
	return a.follow(ctx, s)
}

// takeTurn takes the names if nobody is ahead and they have room; with permits
// as s showed them.
func (a *acquiring) takeTurn(ctx context.Context, s *snapshot) (*driver.Grant, *snapshot, error) {
	t := &txn{or: a.lookIfRoom(a.order)}
	for _, base := range a.bases {
		mine := placeKey(base, a.order, a.r.Holder)
		t.demands = append(t.demands, present(mine))
		switch {
		case a.permits() > 1:
			t.demands = append(t.demands, noneAfter(base+kindGrant, mine, s.revision))
		default:
			t.demands = append(t.demands, none(blocking(base, a.r.Mode), mine))
		}
		if a.r.Mode == driver.Shared && 3*len(a.bases) <= maxOps {
			t.demands = append(t.demands, absent(grantKey(base, kindShared, a.r.Holder)))
		}
	}
	return a.grant(ctx, t, a.order)
}

// follow goes on from what was seen: to the grant if it is the request's turn,
// and otherwise to the wait for what is in the way.
func (a *acquiring) follow(ctx context.Context, s *snapshot) (*driver.Grant, *driver.Ticket, error) {
	for {
		if s.owned() > 0 {
			g, err := a.repeat(ctx, s)
			return g, nil, err
		}
		if !s.waits() { // the place was lost with its session, or cancelled
			if !a.again() {
				return nil, nil, fmt.Errorf("%w: the place is lost again and again", lease.ErrUnavailable)
			}
			if s, err := a.seeNow(ctx, 0); err != nil || s.owned() > 0 || s.waits() {
				return a.surprised(ctx, s, err)
			}
			return a.join(ctx, s)
		}
		if err := a.adopt(ctx, s); err != nil {
			return nil, nil, err
		}
		if !a.open(s) {
			return nil, a.wait(s), nil
		}
		if !a.again() {
			return nil, a.soon(), nil
		}
		g, seen, err := a.takeTurn(ctx, s)
		if err != nil || g != nil {
			return g, nil, err
		}
		s = seen
	}
}

// surprised goes on when another request of the holder has come in between.
func (a *acquiring) surprised(ctx context.Context, s *snapshot, err error) (*driver.Grant, *driver.Ticket, error) {
	if err != nil {
		return nil, nil, err
	}
	g, t, _, err := a.known(ctx, s)
	return g, t, err
}

// wait notes what the request waits for, and returns its ticket.
func (a *acquiring) wait(s *snapshot) *driver.Ticket {
	position := int64(0)
	var b *blocker
	for i := range s.names {
		n, base := &s.names[i], a.bases[i]
		position = max(position, n.waiting+1)
		switch {
		case b != nil:
		case n.waiting > 0:
			b = &blocker{key: string(n.ahead.Key)}
		case a.fits(n):
		case a.permits() > 1: // any one of them will do
			b = &blocker{key: base + kindGrant, end: base + kindPastGrant, room: int64(a.permits()), holder: true}
		default:
			b = &blocker{key: string(n.holder.Key), holder: true}
		}
	}
	b.revision = s.revision
	a.c.waiters.block(a.claim, b, checkPeriod)
	return &driver.Ticket{Opaque: writeTicket(a.order), Position: int(position)}
}

// soon is wait for one that lost every race.
func (a *acquiring) soon() *driver.Ticket {
	a.c.waiters.block(a.claim, nil, raceDelay)
	return &driver.Ticket{Opaque: writeTicket(a.order), Position: 1}
}
