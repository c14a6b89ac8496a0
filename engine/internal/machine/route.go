package machine

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// exchange routes by the rules of AMQP 0-9-1.
type exchange struct {
	spec     queuedriver.Exchange
	bindings []*binding
	direct   map[string][]*binding // by key, for a direct exchange
	paths    map[path][]*binding
}

// binding sends messages of one exchange to one queue.
type binding struct {
	spec  queuedriver.Binding
	queue *queue
	words []string // of the key, for a topic exchange
}

func newExchange(spec queuedriver.Exchange) *exchange {
	return &exchange{spec: spec, direct: make(map[string][]*binding), paths: make(map[path][]*binding)}
}

func (e *exchange) bind(spec queuedriver.Binding, q *queue) {
	b := &binding{spec: spec, queue: q, words: strings.Split(spec.Key, ".")}
	e.bindings = append(e.bindings, b)
	e.direct[spec.Key] = append(e.direct[spec.Key], b)
	e.paths[pathOf(&spec)] = append(e.paths[pathOf(&spec)], b)
	q.bindings++
	q.sources[e]++
}

// unlink takes note that one binding less leads from e to q.
func (q *queue) unlink(e *exchange) {
	q.bindings--
	if q.sources[e]--; q.sources[e] == 0 {
		delete(q.sources, e)
	}
}

func (e *exchange) unbind(b *binding) {
	same := func(x *binding) bool { return x == b }
	e.bindings = slices.DeleteFunc(e.bindings, same)
	deleteFrom(e.direct, b.spec.Key, same)
	deleteFrom(e.paths, pathOf(&b.spec), same)
	b.queue.unlink(e)
}

// unbindQueue takes out, and returns, all bindings to q.
func (e *exchange) unbindQueue(q *queue) (gone []*binding) {
	toQ := func(x *binding) bool { return x.queue == q }
	for _, b := range e.bindings {
		if toQ(b) {
			gone = append(gone, b)
		}
	}
	e.bindings = slices.DeleteFunc(e.bindings, toQ)
	for _, b := range gone {
		if _, left := e.paths[pathOf(&b.spec)]; left {
			delete(e.paths, pathOf(&b.spec))
			deleteFrom(e.direct, b.spec.Key, toQ)
		}
		q.unlink(e)
	}
	return gone
}

func deleteFrom[K comparable](m map[K][]*binding, key K, del func(*binding) bool) {
	if m[key] = slices.DeleteFunc(m[key], del); len(m[key]) == 0 {
		delete(m, key)
	}
}

// find returns the binding equal to spec, or nil.
func (e *exchange) find(spec *queuedriver.Binding) *binding {
	for _, b := range e.paths[pathOf(spec)] {
		if equalTables(b.spec.Args, spec.Args) {
			return b
		}
	}
	return nil
}

// match appends the queues that a message goes to; a queue may be there more
// than once.
func (e *exchange) match(to []*queue, key string, headers queuedriver.Headers) []*queue {
	switch e.spec.Kind {
	case queuedriver.Direct:
		for _, b := range e.direct[key] {
			to = append(to, b.queue)
		}
	case queuedriver.Fanout:
		for _, b := range e.bindings {
			to = append(to, b.queue)
		}
	case queuedriver.Topic:
		words := strings.Split(key, ".")
		for _, b := range e.bindings {
			if matchTopic(b.words, words) {
				to = append(to, b.queue)
			}
		}
	case queuedriver.HeadersKind:
		for _, b := range e.bindings {
			if matchHeaders(b.spec.Args, headers) {
				to = append(to, b.queue)
			}
		}
	}
	return to
}

// matchTopic reports whether the words of a routing key match a pattern, in
// which * is exactly one word and # is any number of words. It goes back to
// the latest # only, so that a hostile pattern costs at most the product of
// both lengths.
func matchTopic(pattern, words []string) bool {
	p, w := 0, 0
	hash, mark := -1, 0 // the latest #, and the first word not covered by it
	for w < len(words) {
		switch {
		case p < len(pattern) && pattern[p] == "#":
			hash, mark = p, w
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == words[w]):
			p++
			w++
		case hash >= 0:
			mark++
			p, w = hash+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "#" {
		p++
	}
	return p == len(pattern)
}

// matchHeaders compares the arguments of a binding with a message's headers.
// Arguments that begin with "x-" are not compared. Nothing to compare matches
// every message with "all" and none with "any", as in AMQP.
func matchHeaders(args, headers queuedriver.Headers) bool {
	one := args[queuedriver.ArgMatch] == "any"
	for k, want := range args {
		if strings.HasPrefix(k, "x-") {
			continue
		}
		have, ok := headers[k]
		if ok = ok && equalValues(want, have); ok == one {
			return one
		}
	}
	return !one
}

func equalTables(a, b queuedriver.Headers) bool { return maps.EqualFunc(a, b, equalValues) }

// equalValues compares two header values. A number equals one of the other
// type with the same value, for clients in some languages have one type only.
func equalValues(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case queuedriver.Headers:
		b, ok := b.(queuedriver.Headers)
		return ok && equalTables(a, b)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equalValues)
	case int64:
		if f, ok := b.(float64); ok {
			return float64(a) == f
		}
	case float64:
		if i, ok := b.(int64); ok {
			return a == float64(i)
		}
	}
	return a == b
}
