package etcd

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Bounds of a look at many names.
const (
	scanCount   = 1000        // keys of one read
	maxDescribe = 1000        // names that are described at once
	perTxn      = maxOps / 2  // names of one transaction
	maxAsked    = 16          // leases asked about at once
	pastKeys    = "\x01"      // sorts behind all keys of a name, put in place of separator
	aSecond     = time.Second // to which etcd rounds down what is left of a lease
	almostGone  = time.Nanosecond
)

// List implements driver.Conn. With a prefix it reads the keys of all names of
// the page, and those of no others.
func (c *conn) List(ctx context.Context, r *driver.ListRequest) ([]driver.Info, error) {
	if err := checkList(r); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r.Name != "" {
		return c.describe(ctx, []string{r.Name})
	}
	most := r.Max
	if most == 0 {
		most = driver.DefaultList
	}
	var infos []driver.Info
	for after := r.After; len(infos) < most; {
		names, err := c.scan(ctx, r.Prefix, after, most-len(infos))
		if err != nil || len(names) == 0 {
			return infos, err
		}
		found, err := c.describe(ctx, names)
		if err != nil {
			return nil, err
		}
		infos = append(infos, found...)
		after = names[len(names)-1]
	}
	return infos, nil
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

// scan returns up to most names behind another one that somebody holds or
// awaits, in byte order; 0: all of them. A name that has many keys costs one
// read more.
func (c *conn) scan(ctx context.Context, prefix, after string, most int) ([]string, error) {
	end := clientv3.GetPrefixRangeEnd(c.prefix + prefix)
	from := c.prefix + prefix
	if after != "" {
		from = max(from, c.prefix+after+pastKeys)
	}
	var names []string
	for from < end && (most == 0 || len(names) < most) {
		answers, _, err := c.read(ctx, []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(scanCount), clientv3.WithKeysOnly())})
		if err != nil {
			return nil, err
		}
		last := ""
		for _, kv := range answers[0].Kvs {
			k, ok := c.parseKey(kv.Key)
			if !ok {
				continue
			}
			last = k.name
			used := k.kind == kindPlace || strings.HasPrefix(k.kind, kindGrant)
			if used && (len(names) == 0 || names[len(names)-1] != k.name) && (most == 0 || len(names) < most) {
				names = append(names, k.name)
			}
		}
		if !answers[0].More || last == "" {
			return names, nil
		}
		// Past the rest of the last name's keys, if it has been counted;
		// otherwise only past what was read.
		if len(names) > 0 && names[len(names)-1] == last {
			from = c.prefix + last + pastKeys
		} else {
			from = string(answers[0].Kvs[len(answers[0].Kvs)-1].Key) + separator
		}
	}
	return names, nil
}

// describe describes names in their order; those that have nothing to tell any
// more are left out.
func (c *conn) describe(ctx context.Context, names []string) ([]driver.Info, error) {
	states, err := c.states(ctx, names)
	if err != nil {
		return nil, err
	}
	var infos []driver.Info
	for _, in := range states {
		if in != nil {
			infos = append(infos, *in)
		}
	}
	return infos, nil
}

// states describes each of some names; nil where there is nothing to tell.
func (c *conn) states(ctx context.Context, names []string) ([]*driver.Info, error) {
	infos := make([]*driver.Info, len(names))
	for from := 0; from < len(names); from += perTxn {
		end := min(from+perTxn, len(names))
		var gets []clientv3.Op
		for _, name := range names[from:end] {
			base := c.base(name)
			gets = append(gets, clientv3.OpGet(base+kindGrant, clientv3.WithRange(base+kindPastGrant)),
				clientv3.OpGet(base+kindPlace, clientv3.WithRange(base+kindPastPlace), clientv3.WithLimit(driver.MaxListWaiters)))
		}
		answers, _, err := c.read(ctx, gets)
		if err != nil {
			return nil, err
		}
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(maxAsked)
		for i := from; i < end; i++ {
			grants, line := answers[2*(i-from)], answers[2*(i-from)+1]
			if len(grants.Kvs) == 0 && len(line.Kvs) == 0 {
				continue
			}
			group.Go(func() error {
				var err error
				infos[i], err = c.info(gctx, names[i], grants, line)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// info describes a name.
func (c *conn) info(ctx context.Context, name string, grants, line *etcdserverpb.RangeResponse) (*driver.Info, error) {
	in := &driver.Info{Name: name, Permits: 1, Waiting: int(line.Count)}
	now := time.Now()
	for i, kv := range line.Kvs {
		w, err := decodeWaiter(kv.Value)
		if err != nil {
			return nil, err
		}
		k, _ := c.parseKey(kv.Key)
		if i == 0 {
			in.Mode, in.Permits = w.Mode, w.permits()
		}
		in.Waiters = append(in.Waiters, driver.WaiterInfo{
			Holder: k.rest, Mode: w.Mode, Position: i + 1, Waiting: max(0, now.Sub(time.UnixMilli(w.Since))),
		})
	}
	for _, kv := range grants.Kvs {
		g, err := decodeGrant(kv.Value)
		if err != nil {
			return nil, err
		}
		left, alive, err := c.leases.remaining(ctx, clientv3.LeaseID(kv.Lease))
		if err != nil {
			return nil, err
		}
		rest := min(time.Duration(left)*time.Second+aSecond, g.TTL+g.Delay)
		if !alive {
			rest = almostGone // its key is being deleted
		}
		k, _ := c.parseKey(kv.Key)
		mode := driver.Exclusive
		if k.kind == kindShared {
			mode = driver.Shared
		}
		in.Mode, in.Permits = mode, g.permits()
		if g.Delay > 0 && time.Duration(left)*time.Second < g.Delay { // it has run out
			in.ClosedFor = max(in.ClosedFor, rest)
			continue
		}
		in.Grants = append(in.Grants, driver.GrantInfo{
			Holder: g.Holder, Token: c.dress(kv.CreateRevision), Mode: mode, Held: max(0, now.Sub(time.UnixMilli(g.Since))),
			Remaining: max(almostGone, min(rest-g.Delay, g.TTL)), TTL: g.TTL, Revoked: g.Revoked, Meta: g.Meta, Value: g.Value,
		})
	}
	sortGrants(in.Grants)
	if len(in.Grants) == 0 && in.ClosedFor == 0 && in.Waiting == 0 {
		return nil, nil //nolint:nilnil // there is nothing to tell
	}
	return in, nil
}

// sortGrants puts grants in the order in which they were made.
func sortGrants(grants []driver.GrantInfo) {
	slices.SortFunc(grants, func(a, b driver.GrantInfo) int { return cmp.Compare(a.Token, b.Token) })
}
