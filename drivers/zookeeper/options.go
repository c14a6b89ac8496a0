package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TTLs of a lock. A shorter one would end with a short stall.
const (
	MinTTL = 500 * time.Millisecond
	MaxTTL = 24 * time.Hour
)

// Defaults and bounds of Options.
const (
	DefaultRoot    = "/lockkeeper"
	DefaultSession = 10 * time.Second
	DefaultTick    = 2 * time.Second
	DefaultTimeout = 5 * time.Second
	MaxRoot        = 256                  // bytes
	MaxTokenBase   = lease.Token(1) << 63 // a zxid is below it, so that their sum is a Token
)

const (
	minSession, maxSession = time.Second, 10 * time.Minute
	minTick, maxTick       = 10 * time.Millisecond, time.Minute
	minTimeout, maxTimeout = 10 * time.Millisecond, time.Minute
)

// Who may do what with the nodes: see Options.ACL.
const (
	ACLWorld   = "world"   // everybody everything
	ACLCreator = "creator" // the user who creates a node everything, others nothing
	ACLRead    = "read"    // the user who creates a node everything, others read
)

// Options of New; nil and zero values work, but for Session.
type Options struct {
	// Root is the path of the node that has all others; "": DefaultRoot. It
	// is created if it is missing. All clients of the same locks must agree.
	Root string
	// Session is how long the servers keep a session that they do not hear
	// of. A URL asks for it, and what the servers grant counts; with New it
	// is what they have granted to the connection.
	Session time.Duration
	// Tick is the tickTime of the servers, or more; 0: DefaultTick, which is
	// theirs, too.
	Tick time.Duration
	// Timeout bounds connecting; 0: DefaultTimeout.
	Timeout time.Duration
	// TokenBase is added to every token. Where locks move here from another
	// store it is the largest token of that store, or anything above it; all
	// clients must agree. 0 to MaxTokenBase.
	TokenBase lease.Token
	// User and Password are shown to the servers (digest), unless User is "".
	// New shows nothing: the caller's connection has its own AddAuth.
	User, Password string
	// ACL is what new nodes get: ACLWorld, ACLCreator or ACLRead; "":
	// ACLCreator with a User, and ACLWorld without.
	ACL string
}

// withDefaults returns a copy without zero values, or what is wrong.
func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Root == "" {
		d.Root = DefaultRoot
	}
	if d.Session == 0 {
		d.Session = DefaultSession
	}
	if d.Tick == 0 {
		d.Tick = DefaultTick
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultTimeout
	}
	if d.ACL == "" {
		d.ACL = ACLWorld
		if d.User != "" {
			d.ACL = ACLCreator
		}
	}
	if err := checkRoot(d.Root); err != nil {
		return nil, err
	}
	switch {
	case d.Session < minSession || d.Session > maxSession:
		return nil, lease.Invalidf("session", "must be %v to %v, is %v", minSession, maxSession, d.Session)
	case d.Tick < minTick || d.Tick > maxTick:
		return nil, lease.Invalidf("tick", "must be %v to %v, is %v", minTick, maxTick, d.Tick)
	case d.Timeout < minTimeout || d.Timeout > maxTimeout:
		return nil, lease.Invalidf("timeout", "must be %v to %v, is %v", minTimeout, maxTimeout, d.Timeout)
	case d.TokenBase > MaxTokenBase:
		return nil, lease.Invalidf("token_base", "must be 0 to %d, is %d", MaxTokenBase, d.TokenBase)
	case d.ACL != ACLWorld && d.ACL != ACLCreator && d.ACL != ACLRead:
		return nil, lease.Invalidf("acl", "must be %s, %s or %s, is %q", ACLWorld, ACLCreator, ACLRead, d.ACL)
	case strings.ContainsAny(d.User, ":"):
		return nil, lease.Invalidf("user", "must not have a colon")
	}
	return &d, nil
}

func checkRoot(root string) error {
	if err := lease.ValidateText("root", root, 1, MaxRoot); err != nil {
		return err
	}
	if root[0] != '/' {
		return lease.Invalidf("root", "must begin with a slash, is %q", root)
	}
	for _, part := range strings.Split(root[1:], "/") {
		if part == "" || part == "." || part == ".." || part == "zookeeper" || escape(part) != part {
			return lease.Invalidf("root", "must be a path of letters, digits and simple signs, is %q", root)
		}
	}
	return nil
}

func (o *Options) acl() []zk.ACL {
	switch o.ACL {
	case ACLCreator:
		return zk.AuthACL(zk.PermAll)
	case ACLRead:
		return append(zk.AuthACL(zk.PermAll), zk.WorldACL(zk.PermRead)...)
	default:
		return zk.WorldACL(zk.PermAll)
	}
}

// safeTTL is how long after a round trip through the leader a session is sure
// to live: until then the leader has heard of it one heartbeat of the client
// and one tick of the servers before that round trip, or later.
func safeTTL(session, tick time.Duration) time.Duration { return session - session/3 - tick }

// New returns a connection over a client of the caller's own. Closing it
// leaves the client open, and ends the leases that are held through it.
// o.Session is needed.
func New(ctx context.Context, client *zk.Conn, o *Options) (driver.Conn, error) {
	if client == nil {
		return nil, lease.Invalidf("client", "must not be nil")
	}
	if o == nil || o.Session == 0 {
		return nil, lease.Invalidf("session", "must be what the servers have granted to the client")
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return connect(ctx, client, nil, o)
}

// connect makes a conn of a client that is connected, or connects.
func connect(ctx context.Context, client client, link *link, o *Options) (*conn, error) {
	if safe := safeTTL(o.Session, o.Tick); safe < MinTTL {
		return nil, lease.Invalidf("session", "must be at least %v with a tick of %v, is %v", (MinTTL+o.Tick)*3/2, o.Tick, o.Session)
	}
	c := newConn(client, link, o)
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	_, err := do(ctx, c, "prepare the root", true, func() (struct{}, error) { return struct{}{}, c.prepare() })
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// prepare creates the root, and sees to it that the servers know containers.
func (c *conn) prepare() error {
	path := ""
	for _, part := range strings.Split(c.root[1:], "/") {
		path += "/" + part
		ok, _, err := c.client.Exists(path)
		if err == nil && !ok {
			_, err = c.client.Create(path, nil, zk.FlagPersistent, c.acl)
		}
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
	_, err := c.client.CreateContainer(c.root, nil, zk.FlagContainer, c.acl)
	switch {
	case err == nil, errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrNoAuth):
		return nil
	case strings.Contains(err.Error(), "-6"): // unimplemented
		return fmt.Errorf("%w: the server has no containers: ZooKeeper 3.5 is needed", lease.ErrUnsupported)
	default:
		return err
	}
}
