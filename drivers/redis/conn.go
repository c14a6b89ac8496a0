package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// conn is a driver.Conn on a Redis.
type conn struct {
	client       goredis.UniversalClient
	single       *goredis.Client        // nil with a Cluster
	cluster      *goredis.ClusterClient // nil without
	owned        bool                   // Close closes client
	sendsOnce    bool                   // client does not repeat a call by itself
	caps         driver.Caps
	prefix       string
	base         lease.Token // added to every token
	keep         time.Duration
	timeout      time.Duration
	waitReplicas int
	logger       *slog.Logger
	wakes        *wakes
	watch        string        // the channel of watches
	id           string        // of this client
	number       atomic.Uint64 // of its last Acquire or Cancel

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	closed chan struct{}
	once   sync.Once
	work   closegroup.Group

	mu      sync.Mutex
	servers map[*goredis.Client]*server
}

var _ driver.Conn = (*conn)(nil)

// newConn makes a conn without I/O. o has no zero values.
func newConn(client goredis.UniversalClient, o *Options) (*conn, error) {
	c := &conn{
		client: client, caps: capsOf(client), prefix: o.Prefix, base: o.TokenBase,
		keep: o.FenceKeep, timeout: o.Timeout, waitReplicas: o.WaitReplicas, logger: o.Logger,
		id: rand.Text(), closed: make(chan struct{}), servers: map[*goredis.Client]*server{},
	}
	switch client := client.(type) {
	case *goredis.Client:
		c.single, c.sendsOnce = client, client.Options().MaxRetries <= 0
	case *goredis.ClusterClient:
		c.cluster, c.sendsOnce = client, client.Options().MaxRetries <= 0
	default:
		return nil, lease.Invalidf("client", "must be a *redis.Client or a *redis.ClusterClient, is %T", client)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.watch = c.prefix + "watch"
	c.wakes = newWakes(c, c.prefix+"wake:"+c.id)
	return c, nil
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.cancel()
		c.work.Close()
		if c.owned {
			// This ends the calls under way. What an idle connection says
			// when it is closed tells nobody anything.
			_ = c.client.Close()
		}
	})
	c.work.Wait()
	return nil
}

// call makes a call for one name. The channel of watches is every script's
// last argument.
func (c *conn) call(s *script, name string, args ...any) *call {
	keys := keysOf(c.prefix, name)
	return &call{script: s, keys: keys[:], args: append(args, c.watch)}
}

// callAll makes a call for all names of a request. A Cluster runs a script in
// one slot only.
func (c *conn) callAll(s *script, r *driver.Request) (*call, error) {
	keys := make([]string, 0, r.Names()*len(keyKinds))
	for i := range r.Names() {
		name := r.NameAt(i)
		if c.cluster != nil && tagOf(name) != tagOf(r.Name) {
			return nil, fmt.Errorf("several names at once must be in one slot of a Redis Cluster: "+
				"give them the same tag in braces, as in {orders}/1 and {orders}/2; %q and %q have none in common: %w",
				r.Name, name, lease.ErrUnsupported)
		}
		of := keysOf(c.prefix, name)
		keys = append(keys, of[:]...)
	}
	return &call{script: s, keys: keys}, nil
}

// Acquire implements driver.Conn. It returns a ticket at once.
func (c *conn) Acquire(ctx context.Context, r *driver.Request) (*driver.Grant, *driver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	var w *waiter
	if r.Queue {
		w = c.wakes.register(ctx, claimOf(r))
	}
	k, err := c.attempt(r, w)
	if err == nil {
		err = c.run(ctx, k)
	}
	if err != nil {
		return nil, nil, err
	}
	g, t, err := c.acquired(r, w, k)
	if t == nil && r.Queue {
		c.wakes.forget(claimOf(r))
	}
	if g != nil && k.acks < c.waitReplicas {
		return nil, nil, c.takeBack(ctx, r, k.acks)
	}
	return g, t, err
}

// attempt makes the call for one attempt. Without w nobody is to be called.
func (c *conn) attempt(r *driver.Request, w *waiter) (*call, error) {
	place, err := readTicket(r.Ticket)
	if err != nil {
		return nil, err
	}
	meta, err := writeMeta(r.Meta)
	if err != nil {
		return nil, err
	}
	k, err := c.callAll(acquireScript, r)
	if err != nil {
		return nil, err
	}
	channel, word := "", ""
	if w != nil {
		channel, word = c.wakes.channel, w.word
	}
	k.args = []any{
		r.Holder, r.ID, micros(r.TTL), micros(r.LockDelay + time.Microsecond - 1), int(r.Mode), max(1, r.Permits),
		flag(r.Queue), flag(r.Resume), place, meta, channel, word, micros(c.keep),
		c.id, c.number.Add(1), setOf(r), r.Value, c.watch,
	}
	return k, nil
}

// acquired reads what the script says.
func (c *conn) acquired(r *driver.Request, w *waiter, k *call) (*driver.Grant, *driver.Ticket, error) {
	p := &reply{items: k.reply}
	switch s := status(p.int()); s {
	case statusGranted:
		g := &driver.Grant{TTL: r.TTL.Truncate(time.Microsecond)}
		g.Resumed = p.int() == 1
		g.Token = c.base + lease.Token(p.int())
		for range r.More {
			g.More = append(g.More, c.base+lease.Token(p.int()))
		}
		if p.err != nil {
			return nil, nil, p.err
		}
		return g, nil, nil
	case statusQueued:
		place := p.int()
		position, recheck := int(p.int()), p.micros()
		t := &driver.Ticket{Opaque: writeTicket(place, p.string()), Position: position}
		if p.err != nil {
			return nil, nil, p.err
		}
		if w != nil {
			c.wakes.queued(w, place, recheck)
		}
		return nil, t, nil
	case statusConflict:
		permits, mode := p.int(), driver.Mode(p.int())
		return nil, nil, fmt.Errorf("the name is in use as %v with %d permits, not as %v with %d: %w",
			mode, permits, r.Mode, max(1, r.Permits), lease.ErrConflict)
	case statusCancelled:
		return nil, nil, fmt.Errorf("the request was cancelled: %w", lease.ErrNotHeld)
	case statusLimit:
		return nil, nil, fmt.Errorf("%d waiters are in line for the name: %w", MaxWaiters, lease.ErrLimit)
	default:
		return nil, nil, s.err(p)
	}
}

// err returns the error for a status that is one.
func (s status) err(p *reply) error {
	switch s {
	case statusHeld:
		return driver.ErrHeld
	case statusAlreadyHeld:
		return driver.ErrAlreadyHeld
	case statusNotHeld:
		return lease.ErrNotHeld
	case statusRevoked:
		return lease.ErrRevoked
	case statusBroken:
		return lease.ErrBroken
	case statusRenewed, statusReleased, statusCancelled, statusValueSet:
		return nil
	default:
		p.fail(int64(s))
		return p.err
	}
}

// takeBack undoes a grant that too few replicas have.
func (c *conn) takeBack(ctx context.Context, r *driver.Request, acks int) error {
	kind := lease.ErrUnavailable
	if r.Resume || c.Cancel(ctx, r) != nil {
		kind = lease.ErrUnknown // it may be there still
	}
	return fmt.Errorf("%d of %d replicas have acknowledged the grant: %w", acks, c.waitReplicas, kind)
}

// Cancel implements driver.Conn.
func (c *conn) Cancel(ctx context.Context, r *driver.Request) error {
	if err := checkRef(r.Name, r.Holder); err != nil {
		return err
	}
	c.wakes.forget(claimOf(r))
	k, err := c.callAll(cancelScript, r)
	if err != nil {
		return err
	}
	k.args = []any{r.Holder, r.ID, c.id, c.number.Add(1), c.watch}
	if err := c.run(ctx, k); err != nil {
		return err
	}
	p := &reply{items: k.reply}
	return status(p.int()).err(p)
}

// Renew implements driver.Conn.
func (c *conn) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	for i := range refs {
		if err := driver.ValidateTTL("ttl", refs[i].TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	return c.each(ctx, refs, renewScript, func(r *driver.Ref, token string) []any {
		return []any{r.Holder, token, micros(r.TTL)}
	})
}

// Release implements driver.Conn.
func (c *conn) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	return c.each(ctx, refs, releaseScript, func(r *driver.Ref, token string) []any {
		return []any{r.Holder, token}
	})
}

// each runs a script for each ref, at once. A ref whose call failed has that
// as its outcome; if all failed it is the error.
func (c *conn) each(ctx context.Context, refs []driver.Ref, s *script, args func(*driver.Ref, string) []any) ([]driver.Outcome, error) {
	outcomes := make([]driver.Outcome, len(refs))
	calls := make([]*call, len(refs))
	for i := range refs {
		token, ok := c.strip(refs[i].Token)
		if !ok {
			outcomes[i].Err = lease.ErrNotHeld
			continue
		}
		k := c.call(s, refs[i].Name, args(&refs[i], token)...)
		var next *ahead
		if s == releaseScript {
			if next = c.wakes.first(refs[i].Name); next != nil {
				k.next, k.args = next.call, append(k.args[:2], next.call.args...)
			}
		}
		if outcomes[i].Err = c.start(ctx, k); outcomes[i].Err == nil {
			calls[i] = k
			continue
		}
		c.wakes.putBack(next)
		if i == 0 {
			return nil, outcomes[i].Err
		}
	}
	failed := 0
	for i, k := range calls {
		if k == nil {
			continue
		}
		if err := c.finish(ctx, k); err != nil {
			outcomes[i].Err = err
			failed++
			continue
		}
		p := &reply{items: k.reply}
		st := status(p.int())
		outcomes[i].Err = st.err(p)
		if st == statusRenewed {
			if k.acks < c.waitReplicas {
				outcomes[i].Err = fmt.Errorf("%d of %d replicas have acknowledged the renewal: %w", k.acks, c.waitReplicas, lease.ErrUnknown)
				continue
			}
			outcomes[i].TTL = refs[i].TTL.Truncate(time.Microsecond)
		}
	}
	if failed > 0 && failed == len(refs) {
		return nil, outcomes[0].Err
	}
	return outcomes, nil
}

// SetValue implements driver.Conn.
func (c *conn) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	if err := checkRef(ref.Name, ref.Holder); err != nil {
		return err
	}
	if err := driver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	token, ok := c.strip(ref.Token)
	if !ok {
		return lease.ErrNotHeld
	}
	k := c.call(setValueScript, ref.Name, ref.Holder, token, value)
	if err := c.run(ctx, k); err != nil {
		return err
	}
	p := &reply{items: k.reply}
	return status(p.int()).err(p)
}

// Revoke implements driver.Conn.
func (c *conn) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	token := ""
	if r.Token != 0 {
		var ok bool
		if token, ok = c.strip(r.Token); !ok {
			return lease.ErrNotHeld
		}
	}
	k := c.call(revokeScript, r.Name, token, flag(r.Break))
	if err := c.run(ctx, k); err != nil {
		return err
	}
	p := &reply{items: k.reply}
	if p.int() == 0 && p.err == nil {
		return lease.ErrNotHeld
	}
	return p.err
}
