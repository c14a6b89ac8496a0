package queuetest_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func (c *refConn) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	own := driver.Topology{
		Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings),
	}
	caps := c.Caps()
	if err := own.Validate(&caps); err != nil {
		return nil, err
	}
	if _, err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	// Make it all on the side, and put it in its place when nothing is wrong.
	made := reference{exchanges: maps.Clone(c.exchanges), queues: maps.Clone(c.queues), bindings: slices.Clone(c.bindings)}
	if err := c.admitted(&own); err != nil {
		return nil, err
	}
	changes, err := made.declare(&own)
	if err == nil && !dryRun {
		c.exchanges, c.queues, c.bindings = made.exchanges, made.queues, made.bindings
		c.used(&own)
	}
	return changes, err
}

func (r *reference) declare(t *driver.Topology) (changes []driver.Change, err error) {
	create := func(what, name string) {
		changes = append(changes, driver.Change{Action: "create", What: what, Name: name})
	}
	for _, e := range t.Exchanges {
		old, ok := r.exchanges[e.Name]
		if ok && old != e {
			return nil, fmt.Errorf("exchange %q: %w", e.Name, lease.ErrConflict)
		}
		if !ok {
			create("exchange", e.Name)
			r.exchanges[e.Name] = e
		}
	}
	for _, e := range t.Exchanges {
		if e.Alternate != "" && !r.known(e.Alternate, "") {
			return nil, fmt.Errorf("alternate of exchange %q: %w", e.Name, lease.ErrNotFound)
		}
	}
	for _, q := range t.Queues {
		old, ok := r.queues[q.Name]
		if ok && !reflect.DeepEqual(old.spec, q) {
			return nil, fmt.Errorf("queue %q: %w", q.Name, lease.ErrConflict)
		}
		if !ok {
			create("queue", q.Name)
			r.queues[q.Name] = &refQueue{spec: q, seen: map[string]time.Time{}, consumers: map[string]*refConsumer{}}
			if q.Type == driver.Stream {
				r.queues[q.Name].stream = &refStream{offsets: map[string]uint64{}}
			}
		}
	}
	for _, q := range t.Queues {
		if d := q.DeadLetter; d != nil && !r.known(d.Exchange, d.Key) {
			return nil, fmt.Errorf("dead letter of queue %q: %w", q.Name, lease.ErrNotFound)
		}
	}
	for _, b := range t.Bindings {
		if b.ToExchange == "" && r.queues[b.Queue] == nil || b.ToExchange != "" && !r.known(b.ToExchange, "") || !r.known(b.Exchange, "") {
			return nil, fmt.Errorf("binding %q to %q: %w", b.Exchange, b.Queue, lease.ErrNotFound)
		}
		if r.bound(&b) < 0 {
			create("binding", fmt.Sprintf("%s -> %s%s (%s)", b.Exchange, b.Queue, b.ToExchange, b.Key))
			r.bindings = append(r.bindings, b)
		}
	}
	return changes, nil
}

// known reports whether a dead letter can name this; the default exchange is
// known with a queue only.
func (r *reference) known(exchange, queue string) bool {
	if exchange == driver.DefaultExchange {
		return r.queues[queue] != nil
	}
	_, ok := r.exchanges[exchange]
	return ok
}

func (r *reference) bound(b *driver.Binding) int {
	return slices.IndexFunc(r.bindings, func(x driver.Binding) bool { return reflect.DeepEqual(x, *b) })
}

func (c *refConn) Delete(ctx context.Context, req *driver.DeleteRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if _, err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	var gone func(driver.Binding) bool
	switch {
	case req.Queue != "":
		q, err := c.own(req.Queue)
		if err != nil {
			return err
		}
		if req.IfEmpty && len(q.messages)+len(q.scheduled) > 0 {
			return driver.ErrInUse
		}
		delete(c.queues, req.Queue)
		gone = func(b driver.Binding) bool { return b.Queue == req.Queue }
	case req.Exchange != "":
		if _, ok := c.exchanges[req.Exchange]; !ok {
			return lease.ErrNotFound
		}
		from := func(b driver.Binding) bool { return b.Exchange == req.Exchange }
		if req.IfUnused && slices.ContainsFunc(c.bindings, from) || c.needed(req.Exchange) {
			return driver.ErrInUse
		}
		gone = func(b driver.Binding) bool { return from(b) || b.ToExchange == req.Exchange && !c.flaws.endsKept }
		delete(c.exchanges, req.Exchange)
	default:
		i := c.bound(req.Binding)
		if i < 0 {
			return lease.ErrNotFound
		}
		if q := c.queues[req.Binding.Queue]; q != nil && !c.owns(q) {
			return driver.ErrExclusive
		}
		gone = func(b driver.Binding) bool { return reflect.DeepEqual(b, *req.Binding) }
	}
	c.bindings = slices.DeleteFunc(c.bindings, gone)
	c.wake()
	return nil
}

// needed reports whether an exchange is the alternate of another or the dead
// letter of a queue.
func (r *reference) needed(exchange string) bool {
	for _, e := range r.exchanges {
		if e.Alternate == exchange && !r.flaws.alternateForlorn {
			return true
		}
	}
	for _, q := range r.queues {
		if d := q.spec.DeadLetter; d != nil && d.Exchange == exchange {
			return true
		}
	}
	return false
}

func (c *refConn) Topology(ctx context.Context) (*driver.Topology, error) {
	if _, err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	t := &driver.Topology{Bindings: slices.Clone(c.bindings)}
	for _, name := range slices.Sorted(maps.Keys(c.exchanges)) {
		t.Exchanges = append(t.Exchanges, c.exchanges[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.queues)) {
		t.Queues = append(t.Queues, c.queues[name].spec)
	}
	slices.SortStableFunc(t.Bindings, func(a, b driver.Binding) int {
		return cmp.Or(cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.ToExchange, b.ToExchange), cmp.Compare(a.Key, b.Key))
	})
	return t, nil
}

// match returns the queues that a message goes to, each once.
func (r *reference) match(route driver.Route, h driver.Headers) (to []*refQueue, err error) {
	if route.Exchange == driver.DefaultExchange {
		if q := r.queues[route.Key]; q != nil {
			to = append(to, q)
		}
		return to, nil
	}
	e, ok := r.exchanges[route.Exchange]
	if !ok {
		return nil, fmt.Errorf("exchange %q: %w", route.Exchange, lease.ErrNotFound)
	}
	r.walk(e, route.Key, h, map[string]bool{}, &to)
	return to, nil
}

// walk takes a message through an exchange and through those it leads to.
func (r *reference) walk(e driver.Exchange, key string, h driver.Headers, seen map[string]bool, to *[]*refQueue) {
	first := len(seen) == 0
	if seen[e.Name] {
		return
	}
	seen[e.Name] = true
	matched := false
	for _, b := range r.bindings {
		if b.Exchange != e.Name || !wanted(e.Kind, &b, key, h) && (first || !r.flaws.secondKeyIgnored) {
			continue
		}
		matched = true
		if b.ToExchange != "" {
			r.walk(r.exchanges[b.ToExchange], key, h, seen, to)
		} else if q := r.queues[b.Queue]; !slices.Contains(*to, q) {
			*to = append(*to, q)
		}
	}
	if e.Alternate != "" && (!matched || r.flaws.alternateAlways) {
		r.walk(r.exchanges[e.Alternate], key, h, seen, to)
	}
}

func wanted(kind driver.Kind, b *driver.Binding, key string, h driver.Headers) bool {
	switch kind {
	case driver.Direct:
		return b.Key == key
	case driver.Topic:
		return fits(strings.Split(b.Key, "."), strings.Split(key, "."))
	case driver.HeadersKind:
		return agree(b.Args, h)
	case driver.Fanout:
		return true
	}
	return false
}

// fits matches a topic pattern by trying everything.
func fits(pattern, words []string) bool {
	if len(pattern) == 0 {
		return len(words) == 0
	}
	if pattern[0] == "#" {
		return fits(pattern[1:], words) || len(words) > 0 && fits(pattern, words[1:])
	}
	return len(words) > 0 && (pattern[0] == "*" || pattern[0] == words[0]) && fits(pattern[1:], words[1:])
}

func agree(args, h driver.Headers) bool {
	compared, equal := 0, 0
	for k, v := range args {
		if strings.HasPrefix(k, "x-") {
			continue
		}
		compared++
		if got, ok := h[k]; ok && reflect.DeepEqual(got, v) {
			equal++
		}
	}
	if args[driver.ArgMatch] == "any" {
		return equal > 0
	}
	return equal == compared
}
