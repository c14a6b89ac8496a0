package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

type lockConn struct {
	*caller
	caps lockdriver.Caps
}

func (c *lockConn) Caps() lockdriver.Caps { return c.caps }

// Acquire does not wait: with Request.Queue it comes back with a ticket at
// once, and Wait is the long poll.
func (c *lockConn) Acquire(ctx context.Context, r *lockdriver.Request) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	if x, err := c.over(ctx, 0, 0); x != nil || err != nil {
		if err != nil {
			return nil, nil, err
		}
		return c.sessionAcquire(x, r, false)
	}
	return c.acquire(ctx, r, 0)
}

func (c *lockConn) acquire(ctx context.Context, r *lockdriver.Request, wait time.Duration) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	// Checked here too: on the wire a TTL past its limit by less than a
	// millisecond would be within it.
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	in := wire.NewAcquireRequest(r)
	in.Wait = wire.Ceil(wait)
	var out wire.AcquireReply
	err := c.call(ctx, request{method: http.MethodPost, path: "/v1/locks/acquire", wait: wait}, in, &out)
	var p *problemError
	switch {
	case err == nil:
		g, err := out.Grant(r)
		return g, nil, err
	case r.Queue && errors.As(err, &p) && p.problem.Code == wire.CodeHeld:
		return nil, &lockdriver.Ticket{Opaque: p.problem.Ticket, Position: p.problem.Position}, nil
	}
	return nil, nil, err
}

// Wait lasts until the grant over the session; over HTTP it is one long poll
// of at most Options.Poll.
func (c *lockConn) Wait(ctx context.Context, r *lockdriver.Request, t *lockdriver.Ticket) (*lockdriver.Grant, error) {
	again := *r
	again.Ticket, again.Queue = t, true
	if err := again.Validate(&c.caps); err != nil {
		return nil, err
	}
	if x, err := c.over(ctx, forever, 0); x != nil || err != nil {
		if err != nil {
			return nil, err
		}
		g, _, err := c.sessionAcquire(x, &again, true)
		return g, err
	}
	g, _, err := c.acquire(ctx, &again, c.c.poll)
	return g, err
}

func (c *lockConn) Cancel(ctx context.Context, r *lockdriver.Request) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v1/locks/cancel"}, wire.NewCancelRequest(r), nil)
}

func (c *lockConn) Renew(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	for i, r := range refs {
		if err := lockdriver.ValidateTTL(wire.Indexed("leases", i)+".ttl", r.TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	if outcomes, done, err := c.leasesOver(ctx, frame.Renew, refs); done {
		return outcomes, err
	}
	in := wire.RenewRequest{Leases: make([]wire.RenewRef, len(refs))}
	for i, r := range refs {
		in.Leases[i] = wire.RenewRef{LeaseRef: leaseRef(r), TTL: wire.LeaseMillis(r.TTL)}
	}
	return c.leases(ctx, "/v1/locks/renew", in, len(refs))
}

func (c *lockConn) Release(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	if outcomes, done, err := c.leasesOver(ctx, frame.Release, refs); done {
		return outcomes, err
	}
	in := wire.ReleaseRequest{Leases: make([]wire.LeaseRef, len(refs))}
	for i, r := range refs {
		in.Leases[i] = leaseRef(r)
	}
	return c.leases(ctx, "/v1/locks/release", in, len(refs))
}

// leasesOver renews or releases over the session, unless done is false.
func (c *lockConn) leasesOver(ctx context.Context, kind frame.Kind, refs []lockdriver.Ref) (outcomes []lockdriver.Outcome, done bool, err error) {
	if len(refs) == 0 || len(refs) > lockdriver.MaxBatch {
		return nil, false, nil // decided there
	}
	x, err := c.over(ctx, 0, 0)
	if x == nil {
		return nil, err != nil, err
	}
	outcomes, err = c.sessionLeases(x, kind, refs)
	return outcomes, true, err
}

func leaseRef(r lockdriver.Ref) wire.LeaseRef {
	return wire.LeaseRef{Name: r.Name, Holder: r.Holder, Token: r.Token}
}

func (c *lockConn) leases(ctx context.Context, path string, in any, n int) ([]lockdriver.Outcome, error) {
	if n == 0 {
		return nil, nil
	}
	var out wire.LeasesReply
	if err := c.call(ctx, request{method: http.MethodPost, path: path}, in, &out); err != nil {
		return nil, err
	}
	if len(out.Outcomes) != n {
		return nil, wrongCount(len(out.Outcomes), n)
	}
	outcomes := make([]lockdriver.Outcome, n)
	for i, o := range out.Outcomes {
		outcomes[i] = lockdriver.Outcome{Err: o.Error.Err(), TTL: o.TTL.Duration()}
	}
	return outcomes, nil
}

func wrongCount(got, want int) error {
	return fmt.Errorf("%w: the daemon answered %d outcomes for %d", lease.ErrUnknown, got, want)
}

func (c *lockConn) Revoke(ctx context.Context, r *lockdriver.RevokeRequest) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v1/locks/revoke"}, wire.RevokeRequest{Name: r.Name, Token: r.Token, Break: r.Break}, nil)
}

func (c *lockConn) List(ctx context.Context, r *lockdriver.ListRequest) ([]lockdriver.Info, error) {
	var out wire.LocksReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/locks", query: listQuery(r.Name, r.Prefix, r.After, r.Max), reads: true}, nil, &out); err != nil {
		return nil, err
	}
	infos := make([]lockdriver.Info, len(out.Locks))
	for i := range out.Locks {
		var err error
		if infos[i], err = out.Locks[i].Driver(); err != nil {
			return nil, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnavailable, err)
		}
	}
	return infos, nil
}

func listQuery(name, prefix, after string, max int) url.Values {
	q := url.Values{}
	if name != "" {
		prefix, after = "", ""
	}
	for k, v := range map[string]string{"name": name, "prefix": prefix, "after": after} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if max != 0 {
		q.Set("limit", strconv.Itoa(max))
	}
	return q
}
