package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TTLs of a lock. A shorter one would end with a short stall of the server.
const (
	MinTTL = time.Second
	MaxTTL = 24 * time.Hour
)

// Defaults and bounds of Options.
const (
	DefaultPrefix    = "lockkeeper:"
	DefaultTimeout   = 2 * time.Second
	DefaultFenceKeep = 2 * time.Hour
	MinFenceKeep     = time.Second
	MaxFenceKeep     = 30 * 24 * time.Hour
	MaxPrefix        = 64                   // bytes
	MaxWaitReplicas  = 16                   // more than anybody has
	MaxTokenBase     = lease.Token(1) << 63 // tokens above it count on for 290,000 years
)

// minTimeout and maxTimeout bound Options.Timeout.
const (
	minTimeout = 10 * time.Millisecond
	maxTimeout = time.Minute
)

// Options of New; nil and zero values work.
type Options struct {
	// Prefix begins all keys and channels; "": DefaultPrefix. All clients of
	// the same locks must agree on it.
	Prefix string
	// TokenBase is added to every token. Where locks move here from another
	// store it is the largest token of that store, or anything above it; all
	// clients must agree. 0 to MaxTokenBase.
	TokenBase lease.Token
	// FenceKeep is how long the last number of a name is remembered after
	// its last grant; 0: DefaultFenceKeep. A server's clock that is set back
	// by less than that takes no token back.
	FenceKeep time.Duration
	// WaitReplicas is how many replicas must have acknowledged a grant or a
	// renewal before it counts, 0 to MaxWaitReplicas. It makes it less likely,
	// and not impossible, that a failover loses a grant.
	WaitReplicas int
	// Timeout bounds the waits for the acknowledgements and for the
	// subscription; 0: DefaultTimeout. Where the client was made from a URL
	// it also bounds connecting, writing and reading.
	Timeout time.Duration
	// Logger is told of a server that may evict locks; nil: slog's default.
	Logger *slog.Logger
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
	if d.FenceKeep == 0 {
		d.FenceKeep = DefaultFenceKeep
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultTimeout
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if err := lease.ValidateText("prefix", d.Prefix, 1, MaxPrefix); err != nil {
		return nil, err
	}
	switch {
	case strings.ContainsAny(d.Prefix, "{}"):
		return nil, lease.Invalidf("prefix", "must not have braces, which say to which slot a key belongs")
	case d.FenceKeep < MinFenceKeep || d.FenceKeep > MaxFenceKeep:
		return nil, lease.Invalidf("fence_keep", "must be %v to %v, is %v", MinFenceKeep, MaxFenceKeep, d.FenceKeep)
	case d.Timeout < minTimeout || d.Timeout > maxTimeout:
		return nil, lease.Invalidf("timeout", "must be %v to %v, is %v", minTimeout, maxTimeout, d.Timeout)
	case d.WaitReplicas < 0 || d.WaitReplicas > MaxWaitReplicas:
		return nil, lease.Invalidf("wait_replicas", "must be 0 to %d, is %d", MaxWaitReplicas, d.WaitReplicas)
	case d.TokenBase > MaxTokenBase:
		return nil, lease.Invalidf("token_base", "must be 0 to %d, is %d", MaxTokenBase, d.TokenBase)
	}
	return &d, nil
}

// New returns a connection over a client of the caller's own, which must be a
// *redis.Client (also one for Sentinel) or a *redis.ClusterClient. Closing the
// connection leaves the client open.
//
// Make the client with MaxRetries: -1. One that repeats calls by itself is
// safe, but after a lost reply its Release may say that the lease was not
// held, and an outcome is more often unknown.
func New(ctx context.Context, client goredis.UniversalClient, o *Options) (driver.Conn, error) {
	return connect(ctx, client, o, false)
}

func connect(ctx context.Context, client goredis.UniversalClient, o *Options, owned bool) (driver.Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newConn(client, o)
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.owned = owned
	return c, nil
}

// check sees to it that what answers is a Redis that takes writes, and warns
// of one that may throw locks away.
func (c *conn) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout)
	defer cancel()
	if c.cluster == nil {
		return c.checkServer(ctx, c.single)
	}
	err := c.cluster.ForEachMaster(ctx, c.checkServer)
	switch {
	case err == nil || errors.Is(err, lease.ErrUnavailable) || errors.Is(err, lease.ErrDenied):
		return err
	case strings.Contains(err.Error(), "cluster support disabled"):
		return lease.Invalidf("url", "must begin with redis://: the server is no node of a Redis Cluster")
	case isReply(err):
		return classify(err, true)
	default:
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
}

func (c *conn) checkServer(ctx context.Context, client *goredis.Client) error {
	text, err := infoOf(ctx, client)
	switch {
	case hasCode(err, "NOPERM"):
		return nil // the user may run scripts all the same
	case isReply(err) && strings.Contains(err.Error(), "DB index"):
		return lease.Invalidf("url", "names a database that the server does not have")
	case isReply(err):
		return fmt.Errorf("ask the server what it is: %w", classify(err, true))
	case err != nil && strings.Contains(err.Error(), "can't parse"):
		return fmt.Errorf("%w: what answers is not a Redis: %w", lease.ErrUnavailable, err)
	case err != nil:
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	case text["redis_version"] == "":
		return fmt.Errorf("%w: what answers is not a Redis", lease.ErrUnavailable)
	case text["role"] == "slave":
		return fmt.Errorf("%w: the server is a read-only replica of %s:%s: name the primary, or use redis+sentinel://",
			lease.ErrUnavailable, text["master_host"], text["master_port"])
	case text["cluster_enabled"] == "1" && c.cluster == nil:
		return lease.Invalidf("url", "must begin with redis+cluster://: the server is a node of a Redis Cluster")
	}
	if policy := text["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		c.logger.Warn("redis may evict locks when its memory is full: two can hold one then; set maxmemory-policy noeviction",
			"server", client.Options().Addr, "maxmemory_policy", policy)
	}
	return nil
}

// infoOf returns what INFO says.
func infoOf(ctx context.Context, client *goredis.Client) (map[string]string, error) {
	text, err := client.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	return fields, nil
}
