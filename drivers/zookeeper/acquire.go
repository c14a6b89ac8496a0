package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// maxRounds bounds how often an attempt begins anew because something changed
// under it.
const maxRounds = 16

// attempt is what an Acquire returns; neither: it is to begin anew.
type attempt struct {
	grant  *driver.Grant
	ticket *driver.Ticket
}

// Acquire implements driver.Conn. It returns a ticket at once.
func (c *conn) Acquire(ctx context.Context, r *driver.Request) (*driver.Grant, *driver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	if err := checkTicket(r.Ticket); err != nil {
		return nil, nil, err
	}
	own := *r // the task may outlast the call
	a, err := do(ctx, c, "acquire", true, func() (attempt, error) {
		p := c.enter(placeKey{own.Name, own.Holder}, &own)
		defer c.exit(p)
		for range maxRounds {
			a, err := c.round(p, &own)
			if err != nil || a.grant != nil || a.ticket != nil {
				return a, err
			}
		}
		return attempt{}, fmt.Errorf("%w: the name changes all the time", lease.ErrUnavailable)
	})
	return a.grant, a.ticket, err
}

// maxTicketID is how long the id of a claim may be.
const maxTicketID = 32

// checkTicket checks that a ticket is the id of a claim.
func checkTicket(t *driver.Ticket) error {
	if t == nil {
		return nil
	}
	ok := t.Opaque != "" && len(t.Opaque) <= maxTicketID
	for _, ch := range t.Opaque {
		ok = ok && (ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9')
	}
	if !ok {
		return lease.Invalidf("ticket", "must be one that was returned by an acquire")
	}
	return nil
}

// round is one try of an attempt.
func (c *conn) round(p *place, r *driver.Request) (attempt, error) {
	if p.unknown {
		if err := c.resolve(p); err != nil {
			return attempt{}, err
		}
	}
	if p.path != "" && !c.current(p) {
		c.reset(p)
	}
	fresh := p.path == ""
	if fresh {
		alone, err := c.begin(p, r)
		switch {
		case err != nil || p.path == "":
			return attempt{}, err
		case alone:
			return c.grant(p, r, true)
		}
	}
	proven := fresh && !p.checked // what was taken over is not made anew
	var confirmed chan error
	if !proven && c.hopeful(p) { // both at once, for it is most likely granted
		confirmed = make(chan error, 1)
		go func() { confirmed <- c.confirm(p) }()
	}
	v, err := c.look(r.Name)
	if confirmed != nil {
		if err := <-confirmed; err != nil {
			return attempt{}, gone(c, p, err)
		}
		proven = true
	}
	if err != nil {
		return attempt{}, err
	}
	return c.judge(p, r, v, proven)
}

// hopeful reports whether what an exclusive claim waits for has happened.
func (c *conn) hopeful(p *place) bool {
	if p.kind != kindExclusive || p.rec.Delay > 0 || p.granted || p.watch == nil {
		return false
	}
	select {
	case <-p.watch.fired:
		return true
	default:
		return false
	}
}

// begin makes the claim of a place, or finds the one that the holder has. It
// leaves the place without a claim if the round is to begin anew. alone: the
// claim was made, and nothing else is there.
func (c *conn) begin(p *place, r *driver.Request) (alone bool, err error) {
	if r.Ticket != nil || r.Resume || !r.Queue {
		done, err := c.before(p, r)
		if err != nil || done {
			return false, err
		}
	}
	return c.create(p, r)
}

// before looks at a name before a claim is made: for one that the holder has
// already, and whether a try has hope. done: nothing is to be made.
func (c *conn) before(p *place, r *driver.Request) (done bool, err error) {
	f, v, err := c.lookup(r.Name, r.Holder)
	if err != nil {
		return false, err
	}
	if f != nil {
		return true, c.takeOver(p, r, f, v)
	}
	if r.Queue {
		return false, nil
	}
	if err := conflict(v, kindOf(r)); err != nil {
		return false, err
	}
	if !v.fits(kindOf(r), len(v.claims)) {
		return false, errHeld
	}
	until, err := c.closedUntil(p, r.Name, v)
	if err == nil && !until.IsZero() {
		err = errHeld
	}
	return false, err
}

// takeOver makes a claim that the holder has the place's, if the request may.
func (c *conn) takeOver(p *place, r *driver.Request, f *found, v *view) error {
	switch {
	case f.rec.Request == r.ID:
		return c.adopt(p, f, f.rec)
	case r.Resume && f.place < v.granted():
		rec := f.rec
		rec.Request, rec.TTL = r.ID, c.give(r.TTL).Milliseconds()
		if err := c.adopt(p, f, rec); err != nil {
			return err
		}
		p.resumed = p.path != ""
		return nil
	default:
		return errAlreadyHeld
	}
}

// conflict reports whether the name is in use in another way.
func conflict(v *view, kind string) error {
	if len(v.claims) == 0 || usageOf(v.claims[0].kind) == usageOf(kind) {
		return nil
	}
	mode, permits := modeOf(v.claims[0].kind)
	asked, wanted := modeOf(kind)
	return fmt.Errorf("the name is in use as %v with %d permits, not as %v with %d: %w", mode, permits, asked, wanted, lease.ErrConflict)
}

// judge decides about a claim by what there is of its name. proven is for
// grant.
func (c *conn) judge(p *place, r *driver.Request, v *view, proven bool) (attempt, error) {
	at := v.find(nodeOf(p.path))
	if at < 0 {
		c.reset(p)
		return attempt{}, nil
	}
	if p.request != r.ID {
		return c.another(p, r, v, at)
	}
	if !p.checked {
		if again, err := c.twin(p, r, v, at); again || err != nil {
			return attempt{}, err
		}
		p.checked = true
	}
	if err := conflict(v, p.kind); err != nil {
		c.drop(p)
		return attempt{}, err
	}
	if p.granted {
		return c.grant(p, r, false)
	}
	fits := v.fits(p.kind, at)
	var until time.Time
	if fits {
		var err error
		if until, err = c.closedUntil(p, r.Name, v); err != nil {
			return attempt{}, err
		}
		if until.IsZero() {
			return c.grant(p, r, proven)
		}
	}
	if !r.Queue {
		c.drop(p)
		return attempt{}, errHeld
	}
	return c.wait(p, v, at, until)
}

// another is a request of a holder that has a claim by another one.
func (c *conn) another(p *place, r *driver.Request, v *view, at int) (attempt, error) {
	if !r.Resume || at >= v.granted() {
		return attempt{}, errAlreadyHeld
	}
	rec := p.rec
	rec.Request, rec.TTL = r.ID, c.give(r.TTL).Milliseconds()
	if err := c.write(p, rec); err != nil {
		return attempt{}, gone(c, p, err)
	}
	p.request, p.resumed, p.checked = r.ID, true, true
	return c.grant(p, r, true)
}

// twin looks for a claim of the same holder that is ahead: the place's gives
// way to it. again: it did, or the other one has gone meanwhile.
func (c *conn) twin(p *place, r *driver.Request, v *view, at int) (again bool, err error) {
	i := slices.IndexFunc(v.claims[:at], func(o claim) bool { return o.holder == digest(r.Holder) })
	if i < 0 {
		return false, nil
	}
	f, err := c.read(r.Name, v, i)
	switch {
	case err != nil:
		return false, err
	case f == nil:
		return true, nil
	case f.rec.Holder != r.Holder:
		return false, nil // a digest of two
	}
	if err := c.remove(p, true); err != nil && !errors.Is(err, errGone) {
		c.last(p, retryEvery)
		return false, err
	}
	return true, c.takeOver(p, r, f, v)
}

// grant grants a claim whose turn it is. proven: a round trip through the
// leader was made in this call.
func (c *conn) grant(p *place, r *driver.Request, proven bool) (attempt, error) {
	if !proven || p.rec.Delay > 0 && !p.delayed {
		if err := c.confirm(p); err != nil {
			return attempt{}, gone(c, p, err)
		}
	}
	c.mu.Lock()
	p.granted, p.watch, p.recheck = true, nil, time.Time{}
	resumed := p.resumed
	p.resumed = false
	c.mu.Unlock()
	c.last(p, r.TTL)
	return attempt{grant: &driver.Grant{Token: c.token(p.zxid), TTL: c.give(r.TTL), Resumed: resumed}}, nil
}

// gone has the round begin anew if a claim has gone.
func gone(c *conn, p *place, err error) error {
	if errors.Is(err, errGone) {
		c.reset(p)
		return nil
	}
	return err
}

// Cancel implements driver.Conn.
func (c *conn) Cancel(ctx context.Context, r *driver.Request) error {
	if err := r.ValidateCancel(); err != nil {
		return err
	}
	own := *r
	_, err := do(ctx, c, "cancel", true, func() (struct{}, error) { return struct{}{}, c.undo(&own) })
	return err
}

func (c *conn) undo(r *driver.Request) error {
	if p := c.existing(placeKey{r.Name, r.Holder}); p != nil {
		defer c.exit(p)
		if done, err := c.undoOwn(p, r); done || err != nil {
			return err
		}
	}
	f, _, err := c.lookup(r.Name, r.Holder)
	if err != nil || f == nil || f.rec.Request != r.ID {
		return err
	}
	_, err = c.erase(r.Name, f)
	return err
}

// undoOwn undoes a request of this client's. Without done, another one may have
// its claim.
func (c *conn) undoOwn(p *place, r *driver.Request) (done bool, err error) {
	if p.unknown {
		if err := c.resolve(p); err != nil {
			return false, err
		}
	}
	switch {
	case p.path == "":
		return false, nil
	case p.request != r.ID:
		return true, nil
	}
	err = c.remove(p, true)
	if errors.Is(err, errGone) {
		return false, nil
	}
	return true, err
}
