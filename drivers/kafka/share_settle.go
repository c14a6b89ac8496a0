package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Of what is locked for this member.
const (
	keepEvery  = 200 * time.Millisecond
	renewParts = 3           // a lock is renewed when one of so many parts of it is over
	linger     = time.Second // for which what nobody took stays ready
)

// opFor makes an op about an entry; mu is held.
func (sh *share) opFor(e *entry, kind int8) *op {
	o := &op{at: e.p.place, first: e.offset, last: e.offset, kind: kind}
	if kind == kindRenew {
		o.renewed = e
	}
	return o
}

// submit gives ops to their legs; mu is held. It returns those that have none any
// more.
func (sh *share) submit(ops ...*op) (gone []*op) {
	for _, o := range ops {
		p := sh.parts[o.at]
		if p == nil {
			gone = append(gone, o)
			continue
		}
		o.topicID = p.topicID
		p.leg.ops = append(p.leg.ops, o)
		signal(p.leg.wake)
	}
	return gone
}

// tell says something about an entry, and nobody waits for it; mu is held.
func (sh *share) tell(e *entry, kind int8) { sh.submit(sh.opFor(e, kind)) }

func (sh *share) tellRange(p *sharePart, first, last int64, kind int8) {
	sh.submit(&op{at: p.place, first: first, last: last, kind: kind})
}

// wait submits ops and waits until each is decided; those that are not when ctx
// ends are lease.ErrUnknown in what it returns.
func (sh *share) wait(ctx context.Context, ops []*op) []error {
	if len(ops) == 0 {
		return nil
	}
	errs := make([]error, len(ops))
	set := &opSet{done: make(chan struct{})}
	set.left.Store(int64(len(ops)))
	for _, o := range ops {
		o.batch = set
	}
	sh.s.mu.Lock()
	gone := sh.submit(ops...)
	sh.s.mu.Unlock()
	for _, o := range gone {
		sh.end(o, lease.ErrNotHeld)
	}
	select {
	case <-set.done:
	case <-ctx.Done():
	case <-sh.s.left:
	}
	select {
	case <-set.done:
		for i, o := range ops {
			errs[i] = o.err
		}
	default:
		for i := range ops {
			errs[i] = fmt.Errorf("%w: the broker has not answered yet", lease.ErrUnknown)
		}
	}
	return errs
}

// renewed notes what became of the renewal of a lock.
func (sh *share) renewed(o *op) {
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	e := o.renewed
	e.renewing = false
	switch {
	case o.err == nil:
		e.lock = o.sent.Add(sh.lockFor)
	case errors.Is(o.err, lease.ErrNotHeld):
		sh.lose(e)
	}
}

// settle settles deliveries: what has no error the broker has confirmed.
func (sh *share) settle(ctx context.Context, ss []driver.Settlement, outcomes []driver.Outcome) {
	s := sh.s
	var es, extended []*entry
	var sts, extensions []*driver.Settlement
	var at, extendedAt []int
	var renewals []*op
	s.mu.Lock()
	s.heard = time.Now()
	for i := range ss {
		st := &ss[i]
		e := s.held[st.Ref.Token]
		switch {
		case e == nil || uint64(e.token) != st.Ref.Seq:
			outcomes[i].Err = lease.ErrNotHeld
		case st.Verb == driver.Extend && st.TTL > MaxShareLease:
			outcomes[i].Err = lease.Invalidf("ttl", "must be at most %v of a share group, is %v", MaxShareLease, st.TTL)
		case st.Verb == driver.Extend:
			extended, extensions, extendedAt = append(extended, e), append(extensions, st), append(extendedAt, i)
			renewals = append(renewals, sh.opFor(e, kindRenew))
		default:
			s.unlend(e)
			e.state = settling
			es, sts, at = append(es, e), append(sts, st), append(at, i)
		}
	}
	s.mu.Unlock()
	for k, err := range sh.wait(ctx, renewals) {
		if err == nil {
			outcomes[extendedAt[k]].TTL, err = sh.extend(extended[k], extensions[k])
		}
		outcomes[extendedAt[k]].Err = err
	}
	if len(es) == 0 {
		return
	}
	for k, o := range s.conclude(ctx, es, sts) {
		outcomes[at[k]] = o
		if o.Err != nil {
			s.restore(es[k])
		}
	}
}

// extend leases a delivery anew whose lock was renewed.
func (sh *share) extend(e *entry, st *driver.Settlement) (time.Duration, error) {
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	if e.state != held || e.token != st.Ref.Token {
		return 0, lease.ErrNotHeld
	}
	return sh.s.extend(e, st.TTL), nil
}

// conclude says to the brokers what was decided about entries that are settling.
// What was not carried out is settling still.
func (sh *share) conclude(ctx context.Context, es []*entry, fates []fate, outcomes []driver.Outcome) {
	s := sh.s
	var ops []*op
	var at []int
	s.mu.Lock()
	for i, e := range es {
		switch {
		case e.state != settling:
			outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld}
		case outcomes[i].Err == nil:
			ops, at = append(ops, sh.opFor(e, kindOf(e, &fates[i]))), append(at, i)
		}
	}
	s.mu.Unlock()
	errs := sh.wait(ctx, ops)
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, err := range errs {
		i := at[k]
		e, f := es[i], &fates[i]
		switch {
		case err != nil && errors.Is(err, lease.ErrUnavailable):
			outcomes[i] = driver.Outcome{Err: err}
		case err != nil:
			outcomes[i] = driver.Outcome{Err: err}
			sh.lose(e)
		case e.state != settling:
			outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld}
		case ops[k].kind != kindRenew:
			sh.lose(e)
		case e.bury != "":
			e.attempts++ // buryAgain counts it
			sh.later(e, f.delay, func() { sh.buryAgain(e) })
		default:
			sh.later(e, f.delay, func() { sh.giveBack(s.ctx, []*entry{e}) })
		}
	}
}

// kindOf is what the broker is told of a fate. A message that is to come again
// later stays locked until then: the brokers know no delay.
func kindOf(e *entry, f *fate) int8 {
	switch {
	case f.step == toBury:
		return kindReject
	case f.step == toRelease:
		return kindRelease
	case f.step == toFail && (f.delay > 0 || e.bury != ""):
		return kindRenew
	case f.step == toFail:
		return kindRelease
	}
	return kindAccept
}

// later keeps an entry that is settling locked for a while; mu is held. f runs
// with it settling.
func (sh *share) later(e *entry, delay time.Duration, f func()) {
	e.p.settled()
	e.state = delayed
	e.timer = time.AfterFunc(delay, func() {
		sh.s.mu.Lock()
		defer sh.s.mu.Unlock()
		if e.state != delayed {
			return
		}
		e.timer, e.state = nil, settling
		e.p.held++
		sh.s.c.work.Start(f)
	})
}

// buryAgain tries to dead-letter a message that is past its limit.
func (sh *share) buryAgain(e *entry) {
	s := sh.s
	if s.buryOnce(e).step == toBury {
		ctx, cancel := context.WithTimeout(s.ctx, s.c.o.PublishFor)
		defer cancel()
		sh.wait(ctx, []*op{sh.opFor(e, kindReject)})
		s.mu.Lock()
		defer s.mu.Unlock()
		sh.lose(e)
		return
	}
	e.attempts++
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == settling {
		sh.later(e, max(s.backoff(e), buryPause), func() { sh.buryAgain(e) })
	}
}

// keep renews the locks of what is here, and gives back what nobody takes, until
// the source is stopped.
func (sh *share) keep() {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-sh.s.ctx.Done():
			return
		}
		sh.keepNow(time.Now())
	}
}

func (sh *share) keepNow(now time.Time) {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for consumer := range sh.ahead {
		if !s.consumers[consumer] {
			delete(sh.ahead, consumer)
		}
	}
	spare := 0
	if len(s.waiters) == 0 && now.Sub(s.heard) > linger {
		spare = s.ready.count()
		for _, n := range sh.ahead {
			spare -= n
		}
	}
	for _, p := range sh.parts {
		for _, e := range p.entries {
			switch {
			case !now.Before(e.lock): // nobody answered in time
				sh.lose(e)
			case e.state == ready && spare > 0:
				spare--
				sh.tell(e, kindRelease)
				sh.lose(e)
			case !e.renewing && (e.lock.Sub(now) < sh.lockFor-sh.lockFor/renewParts || e.state == held && e.deadline.After(e.lock)):
				e.renewing = true
				sh.tell(e, kindRenew)
			}
		}
	}
}
