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
}

// acquiring is an acquire that does not wait, begun at a driver that is a
// Starter.
type acquiring struct {
	r       *request
	req     *lockdriver.Request
	began   time.Time
	entered underway[acquireID]
}

// addAcquire begins an acquire. It is entered among the calls that a cancel
// over HTTP ends before anything behind it is looked at, so that no cancel can
// overtake it.
func (ss *session) addAcquire(r *request, body []byte, g *gathered) error {
	req, wait, err := frame.ParseAcquire(body)
	if err != nil {
		return err
	}
	r.waits = wait
	if err := ss.begin(r, g); err != nil {
		return err
	}
	req.Queue = req.Queue || wait
	caps := ss.s.cfg.Locks.Caps()
	if err := req.Validate(&caps); err != nil {
		return g.refuse(r, err)
	}
	if starter, ok := ss.s.cfg.Locks.(lockdriver.Starter); ok && !wait {
		g.rest = append(g.rest, func() error {
			ss.startAcquire(starter, r, req)
			return nil
		})
		return nil
	}
	g.rest = append(g.rest, func() error {
		ctx, leave := ss.s.acquires.enter(ss.ctx, acquireKey(req))
		if wait {
			var cancel func()
			ctx, cancel = r.stoppable(ctx, nil)
			inner := leave
			leave = func() { cancel(); inner() }
		}
		ss.work.Go(func() {
			defer ss.rescue(r)
			c := r.newCall()
			d := time.Duration(0)
			if wait {
				d = untilCancelled
				c.queued = r.queued
			}
			grant, ticket, err := func() (*lockdriver.Grant, *lockdriver.Ticket, error) {
				defer leave() // before the answer: who has it may cancel by HTTP
				return c.acquire(ctx, req, d)
			}()
			r.granted(req, grant, ticket, wait, err)
		})
		return nil
	})
	return nil
}

// startAcquire begins an acquire without a goroutine for it.
func (ss *session) startAcquire(starter lockdriver.Starter, r *request, req *lockdriver.Request) {
	a := &acquiring{r: r, req: req, began: time.Now()}
	a.entered.key = acquireKey(req)
	ss.s.acquires.add(&a.entered)
	defer ss.rescue(r)
	starter.StartAcquire(req, a)
}

// Acquired implements lockdriver.Acquirer.
func (a *acquiring) Acquired(grant *lockdriver.Grant, ticket *lockdriver.Ticket, err error) {
	s := a.r.ss.s
	s.acquires.leave(&a.entered) // before the answer: who has it may cancel by HTTP
	if errors.Is(err, lockdriver.ErrDeadlock) {
		s.metrics.deadlocks.Inc()
	}
	a.r.ss.told(func(now bool) {
		a.r.now = now
		a.r.granted(a.req, waitedSince(grant, a.r.received, a.began), ticket, false, err)
	})
}

// told calls answer, which a driver's goroutine has the outcome for. That must
// not wait for the client: if more than maxUnsent bytes wait for it, another
// goroutine does. now says that answer must not wait.
func (ss *session) told(answer func(now bool)) {
	if ss.out.Bytes() > maxUnsent {
		ss.mu.Lock()
		gone := ss.gone
		if !gone {
			ss.work.Go(func() { answer(false) })
		}
		ss.mu.Unlock()
		if !gone {
			return
		}
	}
	answer(true)
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
func (r *request) granted(req *lockdriver.Request, grant *lockdriver.Grant, ticket *lockdriver.Ticket, wait bool, err error) {
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
	case wait: // it was to be told the grant, and the daemon is shutting down
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
		list = &g.renewals
		c := ss.s.cfg.Locks.Caps()
		caps = &c
	}
	if len(*list) == 0 {
		*list = append(*list, &leases{ss: ss})
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
	l.ss.told(func(now bool) {
		for _, r := range l.requests {
			r.now = now
		}
		l.ss.ended("release", l, outcomes, err)
	})
}

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
