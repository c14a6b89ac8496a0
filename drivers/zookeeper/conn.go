package zookeeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Raw errors of package driver, by shorter names.
var (
	errHeld        = driver.ErrHeld
	errAlreadyHeld = driver.ErrAlreadyHeld
)

// conn is a driver.Conn on a ZooKeeper.
type conn struct {
	client  client
	link    *link // nil: the client is the caller's
	caps    driver.Caps
	root    string
	base    lease.Token // added to every token
	acl     []zk.ACL
	session time.Duration // its time-out
	safe    time.Duration // see safeTTL
	most    int32         // MaxClaims

	closed chan struct{}
	once   sync.Once
	work   closegroup.Group
	hub    hub

	mu     sync.Mutex
	places map[placeKey]*place
}

var _ driver.Conn = (*conn)(nil)

// newConn makes a conn without I/O. o has no zero values.
func newConn(client client, link *link, o *Options) *conn {
	c := &conn{
		client: client, link: link, caps: capabilities(o.Session, o.Tick), root: o.Root, base: o.TokenBase,
		acl: o.acl(), session: o.Session, safe: safeTTL(o.Session, o.Tick), most: MaxClaims,
		closed: make(chan struct{}), places: map[placeKey]*place{},
	}
	c.hub.c = c
	return c
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

// give is the TTL that a lease gets: no longer than its session is sure to
// live.
func (c *conn) give(ttl time.Duration) time.Duration {
	return min(ttl, c.safe).Truncate(time.Millisecond)
}

func (c *conn) token(zxid int64) lease.Token { return c.base + lease.Token(zxid) }

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// closeTime bounds what Close does at the servers.
const closeTime = time.Second

// Close implements driver.Conn. Places in lines are given up. Leases that are
// held go on in a session that is left to expire; on a client of the caller's
// own they end.
func (c *conn) Close() error {
	c.once.Do(func() {
		held := c.leave()
		close(c.closed)
		c.work.Close()
		if c.link == nil {
			return
		}
		if held {
			c.link.sever()      // so that the servers do not end the session now
			go c.client.Close() // it waits up to a second for an answer that nobody sends
			return
		}
		c.client.Close()
		c.link.sever()
	})
	if c.link != nil { // otherwise calls may last as long as the caller's client looks for a server
		c.work.Wait()
	}
	return nil
}

// leave gives up what is to be given up at the end, and reports whether leases
// are held on.
func (c *conn) leave() (held bool) {
	c.mu.Lock()
	var gone []*place
	for _, p := range c.places {
		p.timer.Stop()
		if p.granted && c.link != nil {
			held = true
		} else if p.path != "" {
			gone = append(gone, p)
		}
	}
	c.mu.Unlock()
	if len(gone) == 0 {
		return held
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_, _ = do(ctx, c, "leave the lines", true, func() (struct{}, error) {
		for _, p := range gone {
			_ = c.client.Delete(p.path, -1) // the session's end does it otherwise
		}
		return struct{}{}, nil
	})
	return held
}

// sync has the server that the client is connected to catch up with the
// leader.
func (c *conn) sync() error {
	_, err := c.client.Sync(c.root)
	return err
}

// look returns what there is of a name; nothing if its node is not there.
func (c *conn) look(name string) (*view, error) {
	children, _, err := c.client.Children(c.namePath(name))
	if errors.Is(err, zk.ErrNoNode) {
		return &view{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseView(children), nil
}
