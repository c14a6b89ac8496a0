package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Tokens says whose tokens are handed out.
type Tokens string

// Values of Tokens.
const (
	TokensOld Tokens = "old" // the old backend's, until somebody has begun with TokensNew
	TokensNew Tokens = "new" // the new backend's
)

// Options of New; nil and zero values work.
type Options struct {
	Tokens Tokens // "": TokensOld
}

// conn holds each lock on two backends.
type conn struct {
	old, new driver.Conn
	caps     driver.Caps
	pairs    pairs
	turn     turn

	id     string        // of this connection, in the holders of its own requests
	number atomic.Uint64 // of the last of them

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	err    error // of Close
	work   sync.WaitGroup
	mu     sync.Mutex // guards closed against work.Add
	closed bool
}

var _ driver.Conn = (*conn)(nil)

// New returns a connection that holds locks on both, and owns both from then
// on. It acquires and releases a lock of its own on each, to see that new
// tokens are above the old ones.
func New(ctx context.Context, from, to driver.Conn, o *Options) (driver.Conn, error) {
	if o == nil {
		o = &Options{}
	}
	tokens := o.Tokens
	switch tokens {
	case "":
		tokens = TokensOld
	case TokensOld, TokensNew:
	default:
		return nil, lease.Invalidf("tokens", "must be %s or %s, is %q", TokensOld, TokensNew, tokens)
	}
	old, next := from.Caps(), to.Caps()
	c := &conn{old: from, new: to, caps: both(&old, &next), id: rand.Text(), pairs: newPairs()}
	if c.caps.MinTTL > c.caps.MaxTTL {
		return nil, fmt.Errorf("the backends have no TTL in common: %v to %v, and %v to %v: %w",
			old.MinTTL, old.MaxTTL, next.MinTTL, next.MaxTTL, lease.ErrUnsupported)
	}
	if err := c.turn.begin(c, &old, &next); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	if tokens == TokensNew {
		if err := c.turn.take(ctx); err != nil {
			return nil, fmt.Errorf("turn to the new backend's tokens: %w", err)
		}
	}
	return c, nil
}

// both returns what two backends have in common.
func both(a, b *driver.Caps) driver.Caps {
	c := driver.Caps{
		Backend:            a.Backend + "+" + b.Backend,
		Fenced:             a.Fenced && b.Fenced,
		FIFO:               a.FIFO && b.FIFO,
		Shared:             a.Shared && b.Shared,
		Permits:            a.Permits && b.Permits,
		LockDelay:          a.LockDelay && b.LockDelay,
		Meta:               a.Meta && b.Meta,
		Resume:             a.Resume && b.Resume,
		Revoke:             a.Revoke && b.Revoke,
		Break:              a.Break && b.Break,
		Multi:              a.Multi && b.Multi,
		Deadlock:           a.Deadlock && b.Deadlock,
		Election:           a.Election && b.Election,
		Watch:              a.Watch && b.Watch,
		Loss:               driver.LossBeforeGrant,
		Clock:              a.Clock,
		DeadWaiter:         a.DeadWaiter + b.DeadWaiter,
		MinTTL:             max(a.MinTTL, b.MinTTL),
		MaxTTL:             min(a.MaxTTL, b.MaxTTL),
		TTLPerConn:         a.TTLPerConn || b.TTLPerConn,
		FailoverLosesGrant: a.FailoverLosesGrant || b.FailoverLosesGrant,
		Durable:            a.Durable && b.Durable,
		Assumes: driver.Statement{
			Clock:  fmt.Sprintf("That of both backends, %s and %s: while one of them is used alone by others, its clock keeps them apart.", a.Backend, b.Backend),
			Fence:  "The old backend's tokens until the first replica with tokens=new has started, the new one's from then on, which token_base lifts above the old ones.",
			Node:   "Both backends are needed: while one is down nobody is granted anything, and leases end that cannot be renewed there. What each may lose with a node, it may lose here.",
			Waiter: "As the old backend does. The one that has the name there and stands in the new one's line holds it for its TTL when it dies.",
		},
	}
	if a.Loss != driver.LossBeforeGrant || b.Loss != driver.LossBeforeGrant {
		c.Loss = driver.LossBestEffort
	}
	if a.Clock != b.Clock {
		c.Clock = weaker(a.Clock, b.Clock)
	}
	return c
}

// weaker returns the one of two clocks that more can go wrong with.
func weaker(a, b driver.Clock) driver.Clock {
	for _, c := range []driver.Clock{driver.ClockServerWall, driver.ClockSession} {
		if a == c || b == c {
			return c
		}
	}
	return a
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

// own returns a request of this connection's own.
func (c *conn) own(name string, caps *driver.Caps) *driver.Request {
	return &driver.Request{Name: name, Holder: fmt.Sprintf("migrate-%s-%d", c.id, c.number.Add(1)), TTL: caps.MinTTL}
}

// probe sees to it that the tokens of the new backend are above those of the
// old one.
func (c *conn) probe(ctx context.Context) error {
	var tokens [2]lease.Token
	for i, on := range []driver.Conn{c.old, c.new} {
		caps := on.Caps()
		r := c.own(ownNames+"probe/"+c.id, &caps)
		g, _, err := on.Acquire(ctx, r)
		if err != nil {
			return fmt.Errorf("acquire a lock to see its token: %w", err)
		}
		tokens[i] = g.Token
		if _, err := on.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}}); err != nil {
			return fmt.Errorf("release the lock again: %w", err)
		}
	}
	return growing(tokens[0], tokens[1])
}

// growing returns an error unless a token of the new backend is above one of
// the old backend.
func growing(old, next lease.Token) error {
	if next > old {
		return nil
	}
	return lease.Invalidf("token_base", "of the new backend is too small: its token is %d and the old one's %d; give the URL of the new one a token_base above all tokens of the old one", next, old)
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cancel()
		c.err = errors.Join(c.old.Close(), c.new.Close())
		c.work.Wait()
	})
	return c.err
}

// start runs fn in a goroutine that Close waits for, unless it is closed.
func (c *conn) start(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Go(fn)
	}
}

// undoTime bounds what is taken back after a failure.
const undoTime = 5 * time.Second

// afterwards returns a context for taking something back though ctx may have
// ended.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}
