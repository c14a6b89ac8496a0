package machine

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestMatchTopic(t *testing.T) {
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"a.#", "a", true},
		{"a.#", "a.b.c", true},
		{"#", "", true},
		{"#", "a.b", true},
		{"*", "", true}, // one empty word
		{"*", "a", true},
		{"*.*", "a", false},
		{"#.b", "b", true},
		{"#.b", "a.a.b", true},
		{"#.b", "a.b.c", false},
		{"#.b.#", "a.b.c", true},
		{"#.b.#.d", "a.b.b.d", true},
		{"*.#.*", "a", false},
		{"*.#.*", "a.b", true},
		{"a..b", "a..b", true},
		{"a.*.b", "a..b", true},
		{"a.#.b", "a..b", true},
		{"", "", true},
		{"", "a", false},
		{"a#", "a#", true}, // not a wildcard within a word
		{"a#", "ab", false},
	} {
		if got, _ := matchTopic(strings.Split(c.pattern, "."), strings.Split(c.key, ".")); got != c.want {
			t.Errorf("pattern %q, key %q: %v", c.pattern, c.key, got)
		}
	}
}

// topicRegexp says the same as a pattern, slowly.
func topicRegexp(pattern string) *regexp.Regexp {
	s := "^"
	for _, w := range strings.Split(pattern, ".") {
		switch w {
		case "#":
			s += `(?:\.[^.]*)*`
		case "*":
			s += `\.[^.]*`
		default:
			s += `\.` + regexp.QuoteMeta(w)
		}
	}
	return regexp.MustCompile(s + "$")
}

func FuzzMatchTopic(f *testing.F) {
	for _, s := range []string{"a.*.#", "#.a.#.b", "*.*", ""} {
		f.Add(s, "a.b.c.a.b")
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 40 || strings.Contains(key+pattern, "\n") || !utf8.ValidString(key) || !utf8.ValidString(pattern) {
			return
		}
		got, _ := matchTopic(strings.Split(pattern, "."), strings.Split(key, "."))
		if want := topicRegexp(pattern).MatchString("." + key); got != want {
			t.Fatalf("pattern %q, key %q: %v, want %v", pattern, key, got, want)
		}
	})
}

func TestMatchHeaders(t *testing.T) {
	type h = queuedriver.Headers
	for _, c := range []struct {
		name       string
		args, have h
		want       bool
	}{
		{"all", h{"a": "1", "b": int64(2)}, h{"a": "1", "b": int64(2), "c": "3"}, true},
		{"all lacks one", h{"a": "1", "b": int64(2)}, h{"a": "1"}, false},
		{"all of nothing", h{}, h{"a": "1"}, true},
		{"any has one", h{"x-match": "any", "a": "1", "b": "2"}, h{"b": "2"}, true},
		{"any has none", h{"x-match": "any", "a": "1"}, h{"a": "2"}, false},
		{"any of nothing", h{"x-match": "any"}, h{"a": "1"}, false},
		{"x- is not compared", h{"x-match": "all", "x-other": "1", "a": "1"}, h{"a": "1"}, true},
		{"types differ", h{"a": "1"}, h{"a": int64(1)}, false},
		{"numbers agree", h{"a": int64(1)}, h{"a": float64(1)}, true},
		{"bytes", h{"a": []byte("x")}, h{"a": []byte("x")}, true},
		{"tables", h{"a": h{"b": int64(1)}}, h{"a": h{"b": int64(1)}}, true},
		{"lists differ", h{"a": []any{"x"}}, h{"a": []any{"x", "y"}}, false},
	} {
		if got := matchHeaders(c.args, c.have); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
