package machine

import (
	"maps"
	"slices"
	"strings"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// List reads. Names are in a map, for the sake of what happens more often: a
// page costs a pass over all names.
func (l *Locks) List(now Time, c *ListLocks) {
	r := c.Request
	if r.Name != "" {
		if n := l.names[r.Name]; n != nil && n.visible() {
			c.Infos = append(c.Infos, n.info(now))
		}
		return
	}
	most := r.Max
	if most == 0 {
		most = lockdriver.DefaultList
	}
	// The most smallest names are kept; the slice is cut whenever it has
	// twice as many, so that a pass over N names sorts O(N) in all.
	var page []*lockName
	byName := func(a, b *lockName) int { return strings.Compare(a.name, b.name) }
	last := ""
	for name, n := range l.names {
		if name <= r.After || !strings.HasPrefix(name, r.Prefix) || last != "" && name > last || !n.visible() {
			continue
		}
		if page = append(page, n); len(page) >= 2*most {
			slices.SortFunc(page, byName)
			page = page[:most]
			last = page[most-1].name
		}
	}
	slices.SortFunc(page, byName)
	for _, n := range page[:min(most, len(page))] {
		c.Infos = append(c.Infos, n.info(now))
	}
}

// visible reports whether there is anything to show.
func (n *lockName) visible() bool {
	return len(n.grants) > 0 || n.line.len() > 0 || n.closedFor != 0
}

func (n *lockName) info(now Time) lockdriver.Info {
	info := lockdriver.Info{Name: n.name, Mode: n.mode, Permits: n.permits, Waiting: n.line.len()}
	if n.closedFor != 0 {
		info.ClosedFor = max(0, n.closedUntil.Sub(now.Mono))
	}
	if len(n.grants) == 0 && n.line.len() > 0 {
		info.Mode = n.line.head().mode
	}
	for _, g := range n.grants {
		info.Grants = append(info.Grants, lockdriver.GrantInfo{
			Holder:    g.Holder,
			Token:     g.Token,
			Mode:      n.mode,
			Held:      now.Mono.Sub(g.since),
			Remaining: max(0, g.deadline.Sub(now.Mono)),
			TTL:       g.ttl,
			Revoked:   g.Revoked,
			Meta:      maps.Clone(g.Meta),
			Value:     slices.Clone(g.Value),
		})
	}
	for i, w := range n.line.all()[:min(n.line.len(), lockdriver.MaxListWaiters)] {
		info.Waiters = append(info.Waiters, lockdriver.WaiterInfo{
			Holder: w.holder, Mode: w.mode, Position: i + 1, Waiting: now.Mono.Sub(w.since),
		})
	}
	return info
}
