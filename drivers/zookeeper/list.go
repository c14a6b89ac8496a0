package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// brokenKeep is how long the mark of a broken grant waits for its holder to
// see it. A session does not last so long without a renewal.
const brokenKeep = time.Hour

// List implements driver.Conn. With a prefix it reads the names of all locks,
// and then describes those that it returns.
func (c *conn) List(ctx context.Context, r *driver.ListRequest) ([]driver.Info, error) {
	if err := checkList(r); err != nil {
		return nil, err
	}
	own := *r
	if own.Max == 0 {
		own.Max = driver.DefaultList
	}
	return do(ctx, c, "list", false, func() ([]driver.Info, error) {
		if err := c.sync(); err != nil {
			return nil, err
		}
		if own.Name != "" {
			return c.describe([]string{own.Name}, 1)
		}
		names, err := c.names(own.Prefix, own.After)
		if err != nil {
			return nil, err
		}
		return c.describe(names, own.Max)
	})
}

func checkList(r *driver.ListRequest) error {
	switch {
	case r.Max < 0 || r.Max > driver.MaxList:
		return lease.Invalidf("limit", "must be 0 to %d, is %d", driver.MaxList, r.Max)
	case r.Name != "" && (r.Prefix != "" || r.After != ""):
		return lease.Invalidf("name", "excludes prefix and after")
	}
	for _, f := range []struct{ field, value string }{{"name", r.Name}, {"prefix", r.Prefix}, {"after", r.After}} {
		if len(f.value) > driver.MaxName {
			return lease.Invalidf(f.field, "must be at most %d bytes, has %d", driver.MaxName, len(f.value))
		}
	}
	return nil
}

// names returns the names that have a node, sorted.
func (c *conn) names(prefix, after string) ([]string, error) {
	var mu sync.Mutex
	var names []string
	all := make([]int, shards)
	for i := range all {
		all[i] = i
	}
	err := c.each(all, func(i int) error {
		children, _, err := c.client.Children(fmt.Sprintf("%s/%02x", c.root, i))
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, child := range children {
			if name, ok := unescape(child); ok && strings.HasPrefix(name, prefix) && name > after {
				names = append(names, name)
			}
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// describe describes names in their order until it has found as many as
// wanted; those that have nothing to tell are left out.
func (c *conn) describe(names []string, most int) ([]driver.Info, error) {
	var infos []driver.Info
	for len(names) > 0 && len(infos) < most {
		n := min(len(names), most-len(infos))
		found := make([]*driver.Info, n)
		var g errgroup.Group
		g.SetLimit(maxParallel)
		for i, name := range names[:n] {
			g.Go(func() (err error) {
				found[i], err = c.info(name)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for _, in := range found {
			if in != nil {
				infos = append(infos, *in)
			}
		}
		names = names[n:]
	}
	return infos, nil
}

// info describes a name, nil if there is nothing to tell.
func (c *conn) info(name string) (*driver.Info, error) {
	v, err := c.look(name)
	if err != nil {
		return nil, err
	}
	c.prune(name, v)
	left, err := c.closedFor(name, v)
	if err != nil {
		return nil, err
	}
	if len(v.claims) == 0 && left == 0 {
		return nil, nil //nolint:nilnil // it is no error
	}
	in := &driver.Info{Name: name, Permits: 1, ClosedFor: left}
	granted := v.granted()
	if left > 0 && len(v.claims) > 0 && v.claims[0].kind == kindExclusive {
		granted = 0 // it waits for the end of the lock-delay
	}
	if len(v.claims) > 0 {
		in.Mode, in.Permits = modeOf(v.claims[0].kind)
	}
	in.Waiting = len(v.claims) - granted
	described := min(len(v.claims), granted+driver.MaxListWaiters)
	claims := make([]*found, described)
	var g errgroup.Group
	g.SetLimit(maxParallel)
	for i := range claims {
		g.Go(func() (err error) {
			claims[i], err = c.read(name, v, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, f := range claims {
		switch {
		case f == nil: // gone since
			if i >= granted {
				in.Waiting--
			}
		case i < granted:
			in.Grants = append(in.Grants, c.grantInfo(f))
		default:
			mode, _ := modeOf(f.claim.kind)
			in.Waiters = append(in.Waiters, driver.WaiterInfo{
				Holder: f.rec.Holder, Mode: mode, Position: len(in.Waiters) + 1, Waiting: max(0, time.Since(f.since())),
			})
		}
	}
	if len(in.Grants) == 0 && in.Waiting == 0 && left == 0 {
		return nil, nil //nolint:nilnil // it is no error
	}
	return in, nil
}

// grantInfo describes a grant. When it was last renewed is known to its client
// only: what remains is the most that it can be.
func (c *conn) grantInfo(f *found) driver.GrantInfo {
	mode, _ := modeOf(f.claim.kind)
	ttl := time.Duration(f.rec.TTL) * time.Millisecond
	return driver.GrantInfo{
		Holder: f.rec.Holder, Token: c.token(f.zxid()), Mode: mode, Held: max(0, time.Since(f.since())),
		Remaining: ttl, TTL: ttl, Revoked: f.rec.Revoked, Meta: f.rec.Meta, Value: f.rec.Value,
	}
}

// closedFor is how long the lock-delays of a name last on. One that nobody has
// seen yet begins.
func (c *conn) closedFor(name string, v *view) (time.Duration, error) {
	until, err := c.closedUntil(nil, name, v)
	if err != nil || until.IsZero() {
		return 0, err
	}
	return max(0, time.Until(until)), nil
}

// prune removes marks of broken grants that nobody has asked for in a long
// time.
func (c *conn) prune(name string, v *view) {
	for _, token := range v.broken {
		path := c.namePath(name) + "/" + markBroken + "." + token
		_, stat, err := c.client.Exists(path)
		if err == nil && stat != nil && stat.Ctime > 0 && time.Since(time.UnixMilli(stat.Ctime)) > brokenKeep {
			_ = c.client.Delete(path, -1) // the next who looks does it otherwise
		}
	}
}
