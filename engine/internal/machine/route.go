package machine

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// MaxRouteSteps bounds the work of routing one message: bindings that are
// looked at, words and headers that are compared. A message that costs more is
// refused; each exchange has few bindings enough, but they may lead to many
// others.
const MaxRouteSteps = 1_000_000

// routing is where one message has got to.
type routing struct {
	mark    uint64 // of the exchanges and queues that it has reached
	key     string
	words   []string // of key; none until a topic exchange asks for them
	headers queuedriver.Headers
	line    []*exchange // reached
	to      []*queue    // reached
	steps   int
}

// route returns the queues that a message goes to, each once.
func (m *Queues) route(r queuedriver.Route, headers queuedriver.Headers, to []*queue) ([]*queue, error) {
	m.steps++
	if r.Exchange == queuedriver.DefaultExchange {
		if q := m.queues[r.Key]; q != nil {
			to = append(to, q)
		}
		return to, nil
	}
	e := m.exchanges[r.Exchange]
	if e == nil {
		return to, fmt.Errorf("exchange %q: %w", r.Exchange, lease.ErrNotFound)
	}
	m.round++
	w := &m.routing
	*w = routing{mark: m.round, key: r.Key, headers: headers, words: w.words[:0], line: w.line[:0], to: to}
	w.reach(e)
	for i := 0; i < len(w.line) && w.steps <= MaxRouteSteps; i++ {
		e := w.line[i]
		if !w.match(e) && e.spec.Alternate != "" {
			w.reach(m.exchanges[e.spec.Alternate])
		}
	}
	m.steps += w.steps
	to, w.to, w.headers = w.to, nil, nil
	if w.steps > MaxRouteSteps {
		return to[:0], fmt.Errorf("exchange %q, key %q: routing takes more than %d steps: %w", r.Exchange, r.Key, MaxRouteSteps, lease.ErrLimit)
	}
	return to, nil
}

// reach takes the message to an exchange, once.
func (w *routing) reach(e *exchange) {
	w.steps++
	if e.mark != w.mark {
		e.mark = w.mark
		w.line = append(w.line, e)
	}
}

// follow takes the message along a binding that it matches.
func (w *routing) follow(b *binding) {
	if b.to != nil {
		w.reach(b.to)
		return
	}
	w.steps++
	if b.queue.mark != w.mark {
		b.queue.mark = w.mark
		w.to = append(w.to, b.queue)
	}
}

// match follows the bindings of e that the message matches, and reports
// whether there are any. It stops past MaxRouteSteps.
func (w *routing) match(e *exchange) (matched bool) {
	bs := e.bindings
	if e.spec.Kind == queuedriver.Direct {
		bs = e.direct[w.key]
	}
	if e.spec.Kind == queuedriver.Topic && len(w.words) == 0 {
		w.words = splitWords(w.words, w.key)
	}
	for _, b := range bs {
		if w.steps > MaxRouteSteps {
			return true
		}
		ok := true
		switch e.spec.Kind {
		case queuedriver.Topic:
			var n int
			ok, n = matchTopic(b.words, w.words)
			w.steps += n
		case queuedriver.HeadersKind:
			ok = matchHeaders(b.spec.Args, w.headers)
			w.steps += b.steps
		case queuedriver.Direct, queuedriver.Fanout:
		}
		if ok {
			matched = true
			w.follow(b)
		}
	}
	return matched
}

// splitWords appends the words of a routing key, of which there is at least
// one.
func splitWords(words []string, key string) []string {
	for {
		word, rest, more := strings.Cut(key, ".")
		words = append(words, word)
		if !more {
			return words
		}
		key = rest
	}
}

// matchTopic reports whether the words of a routing key match a pattern, in
// which * is exactly one word and # is any number of words, and how many steps
// that took. It goes back to the latest # only, so that a hostile pattern costs
// at most the product of both lengths.
func matchTopic(pattern, words []string) (ok bool, steps int) {
	p, w := 0, 0
	hash, mark := -1, 0 // the latest #, and the first word not covered by it
	for w < len(words) {
		steps++
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
			return false, steps
		}
	}
	for p < len(pattern) && pattern[p] == "#" {
		p++
	}
	return p == len(pattern), steps + 1
}

// headerStep is how many bytes of a header are compared in one step.
const headerStep = 64

// headerSteps is what it costs at most to compare the arguments of a binding.
func headerSteps(args queuedriver.Headers) int {
	n := 1
	for k, v := range args {
		n += 1 + (len(k)+valueSize(v))/headerStep
	}
	return n
}

func valueSize(v any) int {
	n := 8
	switch v := v.(type) {
	case string:
		n = len(v)
	case []byte:
		n = len(v)
	case []any:
		for _, x := range v {
			n += headerStep + valueSize(x)
		}
	case queuedriver.Headers:
		for k, x := range v {
			n += headerStep + len(k) + valueSize(x)
		}
	}
	return n
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
