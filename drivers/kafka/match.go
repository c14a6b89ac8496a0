package kafka

import (
	"bytes"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// matches reports whether any of the bindings from an exchange takes a message.
// headers is only called if they matter.
func matches(kind driver.Kind, bs []*bound, partition int32, offset int64, key string, headers func() driver.Headers) bool {
	for _, b := range bs {
		if offset >= at(b.since, partition) && matchesOne(kind, b.spec, key, headers) {
			return true
		}
	}
	return false
}

func matchesOne(kind driver.Kind, b *driver.Binding, key string, headers func() driver.Headers) bool {
	switch kind {
	case driver.Fanout:
		return true
	case driver.Direct:
		return b.Key == key
	case driver.Topic:
		return matchesTopic(b.Key, key)
	case driver.HeadersKind:
		return matchesHeaders(b.Args, headers())
	}
	return false
}

// matchesTopic matches words between dots: * is any one of them, # any number.
// It remembers the last # only: to let that one take more is always enough.
func matchesTopic(pattern, key string) bool {
	ps, ks := strings.Split(pattern, "."), strings.Split(key, ".")
	p, k := 0, 0
	hash, from := -1, 0 // the last #, and the first word that it has not taken
	for k < len(ks) {
		switch {
		case p < len(ps) && ps[p] == "#":
			hash, from = p, k
			p++
		case p < len(ps) && (ps[p] == "*" || ps[p] == ks[k]):
			p++
			k++
		case hash >= 0:
			from++
			p, k = hash+1, from
		default:
			return false
		}
	}
	for p < len(ps) && ps[p] == "#" {
		p++
	}
	return p == len(ps)
}

// matchesHeaders reports whether all or any of the arguments are among the
// headers. Without arguments "all" are.
func matchesHeaders(args, headers driver.Headers) bool {
	anyOf := args[driver.ArgMatch] == "any"
	asked := 0
	for k, want := range args {
		if k == driver.ArgMatch {
			continue
		}
		asked++
		got, there := headers[k]
		if equal := there && sameValue(got, want); equal == anyOf {
			return anyOf
		}
	}
	return !anyOf || asked == 0
}

func sameValue(a, b any) bool {
	switch a := a.(type) {
	case bool, int64, float64, string:
		return a == b
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case driver.Headers:
		b, ok := b.(driver.Headers)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, there := b[k]; !there || !sameValue(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	return false
}
