package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// acquireID is what a cancel knows of the acquires that it ends.
type acquireID struct{ name, more, holder, id string }

func acquireKey(r *lockdriver.Request) acquireID {
	return acquireID{r.Name, strings.Join(r.More, "\x00"), r.Holder, r.ID}
}

// serveAcquire decides one acquire, waiting in the line if it asks for that.
func serveAcquire(c *call) error {
	var in wire.AcquireRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	req, err := in.Driver()
	if err != nil {
		return err
	}
	caps := c.s.cfg.Locks.Caps()
	if err := req.Validate(&caps); err != nil {
		return err
	}
	grant, ticket, err := c.cancellable(req, in.Wait.Duration())
	if err != nil {
		return err
	}
	if grant == nil {
		return heldProblem(ticket)
	}
	c.s.metrics.granted(req.Mode, grant.Waited)
	return c.reply(wire.NewAcquireReply(req, grant, in.Names != nil))
}

func heldProblem(t *lockdriver.Ticket) *wire.Problem {
	p := wire.NewProblem(wire.CodeHeld, "", "the lock is held; this request is in the line: come back with the ticket within a second to keep the place")
	p.Ticket, p.Position = t.Opaque, t.Position
	return p
}

// cancellable is acquire, to be ended by /v1/locks/cancel.
func (c *call) cancellable(req *lockdriver.Request, wait time.Duration) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	// Entered after validation: names have no NUL, so that the key is unambiguous.
	ctx, leave := c.s.acquires.enter(c.r.Context(), acquireKey(req))
	defer leave() // also if the driver panics: a cancel waits for it
	return c.acquire(ctx, req, wait)
}

// acquire attempts and waits in turns until there is a grant, an error, or
// the wait is over. Grant.Waited then counts from the receipt of the request.
func (c *call) acquire(ctx context.Context, req *lockdriver.Request, wait time.Duration) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	grant, ticket, err := c.attempts(ctx, req, wait)
	if errors.Is(err, lockdriver.ErrDeadlock) {
		c.s.metrics.deadlocks.Inc()
	}
	return grant, ticket, err
}

func (c *call) attempts(ctx context.Context, req *lockdriver.Request, wait time.Duration) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	conn := c.s.cfg.Locks
	until := c.received.Add(wait)
	for {
		// A cancelled request must not get into the line again.
		if ctx.Err() != nil {
			return nil, nil, errCancelled(c)
		}
		began := time.Now()
		grant, ticket, err := conn.Acquire(ctx, req)
		if err != nil || grant != nil {
			return c.since(grant, began), nil, err
		}
		isNew := isNewTicket(req, ticket)
		req.Ticket = ticket
		left := time.Until(until)
		if left <= 0 || c.s.draining() {
			return nil, ticket, nil
		}
		if c.queued != nil && isNew {
			c.queued(ticket)
		}
		grant, err = c.await(ctx, req, left)
		if grant != nil || err != nil {
			return grant, nil, err
		}
	}
}

// await is one wait at req.Ticket. It returns neither if the wait is over and
// the request has to be made again.
func (c *call) await(ctx context.Context, req *lockdriver.Request, left time.Duration) (*lockdriver.Grant, error) {
	waiting, done, err := c.wait(left)
	if err != nil {
		return nil, withTicket(err, req.Ticket)
	}
	defer done()
	// wait's context comes from the client's connection; a cancel by
	// another request has to end it too.
	waiting, cancel := context.WithCancel(waiting)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	c.s.metrics.lockWaiters.Inc()
	defer c.s.metrics.lockWaiters.Dec()
	began := time.Now()
	grant, err := c.s.cfg.Locks.Wait(waiting, req, req.Ticket)
	if err != nil && waiting.Err() != nil {
		err = nil
	}
	return c.since(grant, began), err
}

// since lets a grant's Waited count from the receipt of the request instead
// of from the driver's call.
func (c *call) since(g *lockdriver.Grant, began time.Time) *lockdriver.Grant {
	if g == nil {
		return nil
	}
	out := *g
	out.Waited = waited(g, c.received, began)
	return &out
}

func waited(g *lockdriver.Grant, received, began time.Time) time.Duration {
	return max(0, g.Waited) + began.Sub(received)
}

// isNewTicket says whether a request has got another ticket than it came with.
func isNewTicket(r *lockdriver.Request, t *lockdriver.Ticket) bool {
	return r.Ticket == nil || t == nil || r.Ticket.Opaque != t.Opaque
}

func withTicket(err error, t *lockdriver.Ticket) error {
	p := *wire.ProblemOf(err)
	p.Ticket, p.Position = t.Opaque, t.Position
	return &p
}

func errCancelled(c *call) error {
	if c.gone() {
		return goneError{c.r.Context().Err()}
	}
	return wire.NewProblem(wire.CodeClosed, "", "the request was cancelled by /v1/locks/cancel")
}

func serveCancel(c *call) error {
	var in wire.CancelRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	req, err := in.Driver()
	if err != nil {
		return err
	}
	if err := c.s.acquires.cancel(c.r.Context(), acquireKey(req)); err != nil {
		return err
	}
	if err := c.s.cfg.Locks.Cancel(c.r.Context(), req); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveRelease(c *call) error {
	var in wire.ReleaseRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	single := in.Leases == nil
	if single {
		in.Leases = []wire.LeaseRef{in.LeaseRef}
	} else if in.LeaseRef != (wire.LeaseRef{}) {
		return lease.Invalidf("leases", "excludes name, holder and token: give one lease or a list")
	}
	refs := make([]lockdriver.Ref, len(in.Leases))
	for i, l := range in.Leases {
		refs[i] = lockdriver.Ref{Name: l.Name, Holder: l.Holder, Token: l.Token}
	}
	if err := validRefs(refs, single, nil); err != nil {
		return err
	}
	outcomes, err := c.s.cfg.Locks.Release(c.r.Context(), refs)
	if err != nil {
		return err
	}
	c.s.metrics.ended("release", outcomes)
	return c.replyOutcomes(single, refs, outcomes)
}

func serveRenew(c *call) error {
	var in wire.RenewRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	single := in.Leases == nil
	if single {
		in.Leases = []wire.RenewRef{in.RenewRef}
	} else if in.RenewRef != (wire.RenewRef{}) {
		return lease.Invalidf("leases", "excludes name, holder, token and ttl_ms: give one lease or a list")
	}
	refs := make([]lockdriver.Ref, len(in.Leases))
	for i, l := range in.Leases {
		refs[i] = lockdriver.Ref{Name: l.Name, Holder: l.Holder, Token: l.Token, TTL: l.TTL.Duration()}
	}
	caps := c.s.cfg.Locks.Caps()
	if err := validRefs(refs, single, &caps); err != nil {
		return err
	}
	outcomes, err := c.s.cfg.Locks.Renew(c.r.Context(), refs)
	if err != nil {
		return err
	}
	c.s.metrics.ended("renew", outcomes)
	return c.replyOutcomes(single, refs, outcomes)
}

// validRefs checks all refs, and their TTLs if caps are given.
func validRefs(refs []lockdriver.Ref, single bool, caps *lockdriver.Caps) error {
	if len(refs) == 0 || len(refs) > lockdriver.MaxBatch {
		return lease.Invalidf("leases", "must be 1 to %d, are %d", lockdriver.MaxBatch, len(refs))
	}
	for i := range refs {
		err := validRef("", &refs[i], caps)
		if err != nil && !single {
			err = validRef(wire.Indexed("leases", i)+".", &refs[i], caps) // to say which
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// validRef checks a lease whose fields are called at and their name.
func validRef(at string, r *lockdriver.Ref, caps *lockdriver.Caps) error {
	if err := lockdriver.ValidateName(at+"name", r.Name); err != nil {
		return err
	}
	if err := lockdriver.ValidateHolder(at+"holder", r.Holder); err != nil {
		return err
	}
	if r.Token == 0 {
		return lease.Invalidf(at+"token", "is missing: give the one of the grant, as a string")
	}
	if caps == nil {
		return nil
	}
	return lockdriver.ValidateTTL(at+"ttl", r.TTL, caps)
}

func (c *call) replyOutcomes(single bool, refs []lockdriver.Ref, outcomes []lockdriver.Outcome) error {
	if len(outcomes) != len(refs) {
		return fmt.Errorf("the driver returned %d outcomes for %d leases: %w", len(outcomes), len(refs), lease.ErrUnknown)
	}
	if single && outcomes[0].Err != nil {
		return outcomes[0].Err
	}
	out := wire.LeasesReply{Outcomes: make([]wire.LeaseOutcome, len(outcomes))}
	for i, o := range outcomes {
		out.Outcomes[i] = wire.LeaseOutcome{TTL: wire.LeaseMillis(o.TTL), Error: wire.OutcomeOf(o.Err)}
	}
	return c.reply(&out)
}

func serveRevoke(c *call) error {
	var in wire.RevokeRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := lockdriver.ValidateName("name", in.Name); err != nil {
		return err
	}
	if err := c.s.cfg.Locks.Revoke(c.r.Context(), &lockdriver.RevokeRequest{Name: in.Name, Token: in.Token, Break: in.Break}); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveLocks(c *call) error {
	v := values{Values: c.query}
	req := &lockdriver.ListRequest{Prefix: v.Get("prefix"), Name: v.Get("name"), After: v.Get("after"), Max: v.int("limit", lockdriver.MaxList)}
	if v.err != nil {
		return v.err
	}
	if err := validList(req.Name, req.Prefix, req.After, lockdriver.ValidateName); err != nil {
		return err
	}
	infos, err := c.s.cfg.Locks.List(c.r.Context(), req)
	if err != nil {
		if errors.Is(err, lease.ErrNotFound) && req.Name != "" {
			return c.reply(&wire.LocksReply{Locks: []wire.LockInfo{}})
		}
		return err
	}
	out := wire.LocksReply{Locks: make([]wire.LockInfo, len(infos))}
	for i := range infos {
		out.Locks[i] = wire.NewLockInfo(&infos[i])
	}
	if n := len(infos); n > 0 && req.Name == "" && n >= orDefault(req.Max, lockdriver.DefaultList) {
		out.Next = infos[n-1].Name
	}
	return c.reply(&out)
}

// validList checks the parameters that say which part of a list is wanted.
func validList(name, prefix, after string, valid func(field, s string) error) error {
	if name != "" && (prefix != "" || after != "") {
		return lease.Invalidf("name", "excludes prefix and after: give one of them")
	}
	for field, s := range map[string]string{"name": name, "prefix": prefix, "after": after} {
		if s == "" {
			continue
		}
		if err := valid(field, s); err != nil {
			return err
		}
	}
	return nil
}

func orDefault(n, d int) int { //nolint:unparam // each list has a default of its own
	if n == 0 {
		return d
	}
	return n
}
