package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// scanCount is how many keys the server looks at in one call of a List.
const scanCount = 1000

// List implements driver.Conn. With a prefix it passes over all keys of the
// database, on all masters of a Cluster, without holding the server up.
func (c *conn) List(ctx context.Context, r *driver.ListRequest) ([]driver.Info, error) {
	if err := checkList(r); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	if r.Name != "" {
		return c.describe(ctx, []string{r.Name}, 1)
	}
	names, err := c.scan(ctx, r)
	if err != nil {
		return nil, err
	}
	most := r.Max
	if most == 0 {
		most = driver.DefaultList
	}
	return c.describe(ctx, names, most)
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

// scan returns the names that have a state, sorted.
func (c *conn) scan(ctx context.Context, r *driver.ListRequest) ([]string, error) {
	var mu sync.Mutex
	var names []string
	pattern := globEscaper.Replace(c.prefix) + "{*}h*"
	one := func(ctx context.Context, client *goredis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := client.Scan(ctx, cursor, pattern, scanCount).Result()
			if err != nil {
				return err
			}
			mu.Lock()
			for _, key := range keys {
				if name, ok := nameOf(c.prefix, key); ok && strings.HasPrefix(name, r.Prefix) && name > r.After {
					names = append(names, name)
				}
			}
			mu.Unlock()
			if cursor = next; cursor == 0 {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.isClosed() {
				return lease.ErrClosed
			}
		}
	}
	var err error
	if c.cluster != nil {
		err = c.cluster.ForEachMaster(ctx, one)
	} else {
		err = one(ctx, c.single)
	}
	switch {
	case c.isClosed():
		return nil, lease.ErrClosed
	case err != nil && !isReply(err):
		return nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err) // it changes nothing
	case err != nil:
		return nil, classify(err, true)
	}
	slices.Sort(names)
	return slices.Compact(names), nil // SCAN may return a key twice
}

// describe describes names in their order until it has found as many as
// wanted; those that have nothing to tell any more are left out.
func (c *conn) describe(ctx context.Context, names []string, most int) ([]driver.Info, error) {
	var infos []driver.Info
	for len(names) > 0 && len(infos) < most {
		n := min(len(names), most-len(infos), maxDescribe)
		found, err := c.states(ctx, names[:n])
		if err != nil {
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

// maxDescribe bounds how many names are described at once.
const maxDescribe = 1000

// states describes each of some names; nil where there is nothing to tell.
func (c *conn) states(ctx context.Context, names []string) ([]*driver.Info, error) {
	calls := make([]*call, len(names))
	for i, name := range names {
		calls[i] = c.call(describeScript, name, driver.MaxListWaiters)
		if err := c.start(ctx, calls[i]); err != nil {
			return nil, err
		}
	}
	infos := make([]*driver.Info, len(names))
	for i, k := range calls {
		if err := c.finish(ctx, k); err != nil {
			return nil, err
		}
		if len(k.reply) == 0 {
			continue
		}
		info, err := c.info(names[i], &reply{items: k.reply})
		if err != nil {
			return nil, err
		}
		infos[i] = &info
	}
	return infos, nil
}

// info reads what the script says of a name.
func (c *conn) info(name string, p *reply) (driver.Info, error) {
	now := p.micros()
	in := driver.Info{Name: name, Mode: driver.Mode(p.int()), Permits: int(p.int())}
	in.ClosedFor = max(0, p.micros()-now)
	in.Waiting = int(p.int())
	state, line := p.list(), p.list()
	meta, values := map[string]string{}, map[string]string{}
	for p.err == nil && state.err == nil && len(state.items) > 0 {
		field, value := state.string(), state.string()
		if holder, ok := strings.CutPrefix(field, "g:"); ok {
			g, err := c.grantInfo(now, holder, value)
			if err != nil {
				return in, err
			}
			in.Grants = append(in.Grants, g)
		} else if holder, ok := strings.CutPrefix(field, "k:"); ok && value != "" {
			meta[holder] = value
		} else if holder, ok := strings.CutPrefix(field, "v:"); ok && value != "" {
			values[holder] = value
		}
	}
	slices.SortFunc(in.Grants, func(a, b driver.GrantInfo) int {
		if a.Token < b.Token {
			return -1
		}
		return 1
	})
	for i := range in.Grants {
		g := &in.Grants[i]
		g.Mode = in.Mode
		if value := values[g.Holder]; value != "" {
			g.Value = []byte(value)
		}
		if text := meta[g.Holder]; text != "" {
			if err := json.Unmarshal([]byte(text), &g.Meta); err != nil {
				return in, fmt.Errorf("the metadata of %q cannot be read: %w", g.Holder, err)
			}
		}
	}
	for position := 1; p.err == nil && line.err == nil && len(line.items) > 0; position++ {
		holder, record := line.string(), line.string()
		w := driver.WaiterInfo{Holder: holder, Position: position}
		if f := strings.SplitN(record, "\n", 6); len(f) == 6 {
			fields := reply{items: []any{f[0], f[1]}}
			w.Mode = driver.Mode(fields.int())
			w.Waiting = max(0, now-fields.micros())
		}
		in.Waiters = append(in.Waiters, w)
	}
	for _, r := range []*reply{p, state, line} {
		if r.err != nil {
			return in, r.err
		}
	}
	if len(in.Grants) > 0 {
		return in, nil
	}
	if len(in.Waiters) > 0 {
		in.Mode = in.Waiters[0].Mode
	}
	return in, nil
}

// grantInfo reads the record of a grant; lua/prelude.lua has its form.
func (c *conn) grantInfo(now time.Duration, holder, record string) (driver.GrantInfo, error) {
	f := strings.SplitN(record, "\n", 8)
	if len(f) != 8 || len(f[5]) != 2 {
		return driver.GrantInfo{}, fmt.Errorf("the record of %q cannot be read: %q", holder, record)
	}
	p := &reply{items: []any{f[0], f[3], f[6]}}
	g := driver.GrantInfo{Holder: holder, Revoked: f[5][1] == '1'}
	g.Token = c.base + lease.Token(p.int())
	since := p.micros()
	g.TTL = p.micros()
	deadline := since + g.TTL
	if f[1] != "" {
		deadline = (&reply{items: []any{f[1]}}).micros()
	}
	g.Held, g.Remaining = max(0, now-since), max(0, deadline-now)
	if p.err != nil {
		return g, fmt.Errorf("the record of %q cannot be read: %s", holder, strconv.Quote(record))
	}
	return g, nil
}
