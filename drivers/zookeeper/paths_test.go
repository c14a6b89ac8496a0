package zookeeper

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a/b", ".", "..", "%", "%2F", "\U0001F512", "\xff", "a b", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := escape(s)
		if got, ok := unescape(e); !ok || got != s {
			t.Fatalf("%q: %q, %q, %v", s, e, got, ok)
		}
		if strings.ContainsFunc(e, func(r rune) bool { return r < ' ' || r > '~' || r == '/' }) || strings.HasPrefix(e, ".") {
			t.Fatalf("%q is no element of a path", e)
		}
	})
}

func FuzzParseClaim(f *testing.F) {
	f.Add("x.h.ID.M.0000000001")
	f.Add("p3.h.ID.M.-2147483648")
	f.Add("b.12")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := parseClaim(s); ok && (c.node != s || c.kind == "") {
			t.Fatalf("%q: %+v", s, c)
		}
	})
}

// TestPositions: who of a line is granted.
func TestPositions(t *testing.T) {
	for line, want := range map[string]int{
		"": 0, "x": 1, "x,x": 1, "x,s": 1, "s": 1, "s,s": 2, "s,s,x": 2, "s,x,s": 1,
		"p2": 1, "p2,p2": 2, "p2,p2,p2": 2, "p2,x,p2": 1, "p3,p2,p3": 1, "p1024,p1024": 2,
	} {
		v := &view{}
		for i, kind := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' }) {
			v.claims = append(v.claims, claim{kind: kind, number: int32(i)})
		}
		if got := v.granted(); got != want {
			t.Errorf("%q: %d granted; want %d", line, got, want)
		}
	}
}

// TestNumbersWrapAround: the line goes on where the servers' count does not.
func TestNumbersWrapAround(t *testing.T) {
	v := parseView([]string{"x.h.C.M.-2147483648", "x.h.A.M.2147483646", "x.h.B.M.2147483647", "d.A", "b.7", "other"})
	var ids []string
	for _, c := range v.claims {
		ids = append(ids, c.id)
	}
	if !slices.Equal(ids, []string{"A", "B", "C"}) || v.claims[2].number != math.MinInt32 {
		t.Errorf("the line is %v", ids)
	}
	if len(v.orphans()) != 0 || !slices.Equal(v.broken, []string{"7"}) {
		t.Errorf("%+v", v)
	}
}

func TestBadClaims(t *testing.T) {
	for _, s := range []string{
		"", "x", "y.h.I.M.1", "p1.h.I.M.1", "p1025.h.I.M.1", "p.h.I.M.1", "x.h.I.M.", "x.h.I.M.2147483648", "x.h.I.M.1.2",
	} {
		if c, ok := parseClaim(s); ok {
			t.Errorf("%q: %+v", s, c)
		}
	}
}

// TestSafeTTL: what is given is what a session is sure to live.
func TestSafeTTL(t *testing.T) {
	c := newConn(nil, nil, &Options{Root: "/r", Session: 9 * time.Second, Tick: 2 * time.Second, ACL: ACLWorld})
	for ttl, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, 4 * time.Second: 4 * time.Second, 4*time.Second + 1: 4 * time.Second, driver.MaxLockDelay: 4 * time.Second,
	} {
		if got := c.give(ttl); got != want {
			t.Errorf("%v: %v; want %v", ttl, got, want)
		}
	}
}
