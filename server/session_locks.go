package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// untilCancelled is the wait of an acquire on a session: it ends with the
// grant, a cancel, or the session.
const untilCancelled = 365 * 24 * time.Hour

// leases are renewals or releases of one batch that one driver call does.
type leases struct {
	ss       *session
	requests []*request
	refs     []lockdriver.Ref

	// Room for one, which is what most batches have.
	request [1]*request
	ref     [1]lockdriver.Ref
}

func (ss *session) newLeases() *leases {
	l := &leases{ss: ss}
	l.requests, l.refs = l.request[:0], l.ref[:0]
	return l
}

// acquiring is an acquire. It has no goroutine at a driver that is a Starter.
type acquiring struct {
	request

	req      lockdriver.Request
	starter  lockdriver.Starter
	began    time.Time
	entered  underway[acquireID]
	standing *standing // nil: it does not wait
}

// addAcquire begins an acquire. It is entered among the calls that a cancel
// over HTTP ends before anything behind it is looked at, so that no cancel can
// overtake it.
func (ss *session) addAcquire(a *acquiring, body []byte, g *gathered) error {
	wait, err := frame.ParseAcquire(body, &a.req)
	if err != nil {
		return err
	}
	a.waits = wait
	if err := ss.begin(&a.request, g); err != nil {
		return err
	}
	a.req.Queue = a.req.Queue || wait
	if err := a.req.Validate(&ss.s.locksCan); err != nil {
		return g.refuse(&a.request, err)
	}
	a.starter, _ = ss.s.cfg.Locks.(lockdriver.Starter)
	g.rest = append(g.rest, a)
	return nil
}

// run implements task.
func (a *acquiring) run() error {
	ss, r, req := a.ss, &a.request, &a.req
	if a.starter != nil {
		a.began = time.Now()
		a.entered.key = acquireKey(req)
		if r.waits {
			a.standing = &standing{}
			a.entered.cancel = func() { a.end(endCancelled) }
			r.stopBy(&stop{cancel: a.entered.cancel, drain: func() { a.end(endDrained) }})
		}
		ss.s.acquires.add(&a.entered)
		defer ss.rescue(r)
		a.starter.StartAcquire(req, a)
		return nil
	}
	ctx, leave := ss.s.acquires.enter(ss.ctx, acquireKey(req))
	if r.waits {
		var cancel func()
		ctx, cancel = r.stoppable(ctx, nil)
		inner := leave
		leave = func() { cancel(); inner() }
	}
	ss.work.Go(func() {
		defer ss.rescue(r)
		c := r.newCall()
		d := time.Duration(0)
		if r.waits {
			d = untilCancelled
			c.queued = r.queued
		}
		grant, ticket, err := func() (*lockdriver.Grant, *lockdriver.Ticket, error) {
			defer leave() // before the answer: who has it may cancel by HTTP
			return c.acquire(ctx, req, d)
		}()
		r.granted(req, grant, ticket, err)
	})
	return nil
}

// Acquired implements lockdriver.Acquirer.
func (a *acquiring) Acquired(grant *lockdriver.Grant, ticket *lockdriver.Ticket, err error) {
	if errors.Is(err, lockdriver.ErrDeadlock) {
		a.ss.s.metrics.deadlocks.Inc()
	}
	if a.standing != nil {
		var more bool
		if more, ticket, err = a.stood(grant, ticket, err); more {
			return
		}
	}
	a.ss.s.acquires.leave(&a.entered) // before the answer: who has it may cancel by HTTP
	if a.ss.crowded() && a.ss.spawn(func() { a.answer(grant, ticket, err) }) {
		return
	}
	a.now = true
	a.answer(grant, ticket, err)
}

// Flush implements lockdriver.Flusher.
func (a *acquiring) Flush() { a.ss.flush() }

func (a *acquiring) answer(grant *lockdriver.Grant, ticket *lockdriver.Ticket, err error) {
	if grant != nil {
		out := *grant
		out.Waited = waited(grant, a.received, a.began)
		grant = &out
	}
	a.granted(&a.req, grant, ticket, err)
}

// crowded says that so much waits for the client that whoever has an answer
// waits as well. A driver's goroutine must not: another does it for it.
func (ss *session) crowded() bool { return ss.out.Bytes() > maxUnsent }

// spawn calls do in a goroutine that the session waits for. It reports false
// if the session has ended.
func (ss *session) spawn(do func()) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.gone {
		return false
	}
	ss.work.Go(do)
	return true
}

// queued pushes the place that the request has taken in the line.
func (r *request) queued(t *lockdriver.Ticket) {
	b := frame.Buffer()
	defer frame.Free(b)
	*b = frame.AppendQueued(*b, t)
	r.ss.s.metrics.counted(frame.Queued)
	_, _ = r.ss.out.Send(r.id, *b, 0, nil) // a session that has ended ends the wait
}

// granted answers an acquire.
func (r *request) granted(req *lockdriver.Request, grant *lockdriver.Grant, ticket *lockdriver.Ticket, err error) {
	m := r.ss.s.metrics
	b := frame.Buffer()
	switch {
	case err != nil:
		frame.Free(b)
		r.fail(err)
		return
	case grant != nil:
		m.granted(req.Mode, grant.Waited)
		*b = frame.AppendGranted(*b, grant)
		m.counted(frame.Granted)
	case r.waits: // it was to be told the grant, and the daemon is shutting down
		frame.Free(b)
		r.fail(heldProblem(ticket))
		return
	default:
		*b = frame.AppendQueued(*b, ticket)
		m.counted(frame.Queued)
	}
	r.send(b, 0, nil)
}

// addLeases puts a renewal or a release to the others of the batch.
func (ss *session) addLeases(r *request, body []byte, g *gathered) error {
	if err := ss.begin(r, g); err != nil {
		return err
	}
	list := &g.releases
	var caps *lockdriver.Caps
	if r.kind == frame.Renew {
		list, caps = &g.renewals, &ss.s.locksCan
	}
	if len(*list) == 0 {
		*list = append(*list, ss.newLeases())
	}
	l := (*list)[len(*list)-1]
	before := len(l.refs)
	refs, err := frame.ParseRefs(body, l.refs, &g.items)
	if err != nil {
		return err
	}
	own := refs[before:]
	if err := validRefs(own, false, caps); err != nil {
		return g.refuse(r, err)
	}
	r.n = len(own)
	if len(refs) > lockdriver.MaxBatch {
		*list = append(*list, &leases{ss: ss, requests: []*request{r}, refs: own})
		return nil
	}
	l.refs = refs
	l.requests = append(l.requests, r)
	return nil
}

func (ss *session) renew(l *leases) {
	defer ss.rescue(l.requests...)
	outcomes, err := ss.s.cfg.Locks.Renew(ss.ctx, l.refs)
	ss.ended("renew", l, outcomes, err)
}

func (ss *session) release(l *leases) {
	if starter, ok := ss.s.cfg.Locks.(lockdriver.Starter); ok {
		defer ss.rescue(l.requests...)
		starter.StartRelease(l.refs, l)
		return
	}
	ss.work.Go(func() {
		defer ss.rescue(l.requests...)
		outcomes, err := ss.s.cfg.Locks.Release(ss.ctx, l.refs)
		ss.ended("release", l, outcomes, err)
	})
}

// Released implements lockdriver.Releaser.
func (l *leases) Released(outcomes []lockdriver.Outcome, err error) {
	if l.ss.crowded() && l.ss.spawn(func() { l.ss.ended("release", l, outcomes, err) }) {
		return
	}
	for _, r := range l.requests {
		r.now = true
	}
	l.ss.ended("release", l, outcomes, err)
}

// Flush implements lockdriver.Flusher.
func (l *leases) Flush() { l.ss.flush() }

// ended gives each request its outcomes.
func (ss *session) ended(op string, l *leases, outcomes []lockdriver.Outcome, err error) {
	if err == nil && len(outcomes) != len(l.refs) {
		err = fmt.Errorf("the driver returned %d outcomes for %d leases: %w", len(outcomes), len(l.refs), lease.ErrUnknown)
	}
	if err == nil {
		ss.s.metrics.ended(op, outcomes)
	}
	for _, r := range l.requests {
		if err != nil {
			r.fail(err)
			continue
		}
		b := frame.Buffer()
		*b = frame.AppendOutcomes(*b, outcomes[:r.n])
		ss.s.metrics.counted(frame.Outcomes)
		outcomes = outcomes[r.n:]
		r.send(b, r.n, nil)
	}
}
