package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TTLs of a lock. etcd gives no lease for less than one and a half times its
// election time-out, in whole seconds: two with its defaults.
const (
	MinTTL = 2 * time.Second
	MaxTTL = 24 * time.Hour
)

// Defaults and bounds of Options.
const (
	DefaultPrefix  = "lockkeeper/"
	DefaultTimeout = 2 * time.Second
	DefaultSession = 5 * time.Second
	MinSession     = 2 * time.Second
	MaxSession     = time.Minute
	MaxPrefix      = 64                   // bytes
	MaxTokenBase   = lease.Token(1) << 63 // revisions have 63 bits
)

// minTimeout and maxTimeout bound Options.Timeout.
const (
	minTimeout = 10 * time.Millisecond
	maxTimeout = time.Minute
)

// Options of New; nil and zero values work.
type Options struct {
	// Prefix begins all keys; "": DefaultPrefix. All clients of the same
	// locks must agree on it. No other locks may have a prefix that begins
	// with it.
	Prefix string
	// TokenBase is added to every token. Where locks move here from another
	// store it is the largest token of that store, or anything above it; all
	// clients must agree. 0 to MaxTokenBase.
	TokenBase lease.Token
	// Session is how long a client may be silent before its waiters lose
	// their places: how long a dead one can be in the way. MinSession to
	// MaxSession, in whole seconds; 0: DefaultSession.
	Session time.Duration
	// Timeout bounds each call; 0: DefaultTimeout.
	Timeout time.Duration
}

// withDefaults returns a copy without zero values, or what is wrong.
func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Prefix == "" {
		d.Prefix = DefaultPrefix
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultTimeout
	}
	if d.Session == 0 {
		d.Session = DefaultSession
	}
	if err := lease.ValidateText("prefix", d.Prefix, 1, MaxPrefix); err != nil {
		return nil, err
	}
	switch {
	case d.Timeout < minTimeout || d.Timeout > maxTimeout:
		return nil, lease.Invalidf("timeout", "must be %v to %v, is %v", minTimeout, maxTimeout, d.Timeout)
	case d.Session < MinSession || d.Session > MaxSession || d.Session%time.Second != 0:
		return nil, lease.Invalidf("session", "must be whole seconds from %v to %v, is %v", MinSession, MaxSession, d.Session)
	case d.TokenBase > MaxTokenBase:
		return nil, lease.Invalidf("token_base", "must be 0 to %d, is %d", MaxTokenBase, d.TokenBase)
	}
	return &d, nil
}

// New returns a connection over a client of the caller's own. Closing the
// connection leaves the client open.
func New(ctx context.Context, client *clientv3.Client, o *Options) (driver.Conn, error) {
	return connect(ctx, client, o, false)
}

func connect(ctx context.Context, client *clientv3.Client, o *Options, owned bool) (driver.Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := newConn(client, o)
	if err := c.check(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.owned = owned
	return c, nil
}

// check sees to it that what answers is an etcd that has a leader, and that the
// prefix may be read.
func (c *conn) check(ctx context.Context) error {
	_, _, err := c.read(ctx, []clientv3.Op{clientv3.OpGet(c.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if why := c.ask(ctx); why != nil {
			err = fmt.Errorf("%w: %w", lease.ErrUnavailable, why)
		}
	}
	return explain(err)
}

// askTime bounds ask.
const askTime = 300 * time.Millisecond

// ask returns why there is no connection: the client's own calls wait for one,
// and only tell that they have waited.
func (c *conn) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err := etcdserverpb.NewKVClient(c.client.ActiveConnection()).Range(ctx,
		&etcdserverpb.RangeRequest{Key: []byte(c.prefix), KeysOnly: true}, grpc.WaitForReady(false))
	return err
}

// explain adds to an error of the first call what it most likely means.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("nothing answers as an etcd with a leader does: %w", err)
	case strings.Contains(err.Error(), "error reading server preface"), strings.Contains(err.Error(), "unexpected HTTP status"):
		return fmt.Errorf("what answers is not an etcd, or wants TLS: %w", err)
	default:
		return err
	}
}
