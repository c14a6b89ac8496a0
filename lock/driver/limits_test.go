package driver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

var testCaps = Caps{MinTTL: time.Second, MaxTTL: time.Hour, Multi: true, Election: true}

func validRequest() *Request {
	return &Request{Name: "n", Holder: "h", TTL: time.Minute}
}

func entries(n int) map[string]string {
	m := make(map[string]string)
	for i := range n {
		m[strings.Repeat("k", i+1)] = ""
	}
	return m
}

// growing returns names behind "n".
func growing(n int) []string {
	var names []string
	for i := range n {
		names = append(names, "o"+strings.Repeat("o", i))
	}
	return names
}

// TestSeveralNamesNeedTheCapability: what a backend lacks is not invalid.
func TestSeveralNamesNeedTheCapability(t *testing.T) {
	r := validRequest()
	r.More = growing(1)
	if err := r.Validate(&Caps{MaxTTL: time.Hour}); !errors.Is(err, lease.ErrUnsupported) {
		t.Error(err)
	}
}

// TestRequestLimits has each bound at its edge, and one past it.
func TestRequestLimits(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(r *Request)
		ok     bool
	}{
		{"name", func(r *Request) { r.Name = strings.Repeat("n", MaxName) }, true},
		{"name", func(r *Request) { r.Name = strings.Repeat("n", MaxName+1) }, false},
		{"name", func(r *Request) { r.Name = "" }, false},
		{"name", func(r *Request) { r.Name = "a/b%2Fc {d} ü\U0001F512" }, true},
		{"name", func(r *Request) { r.Name = "a\x00b" }, false},
		{"name", func(r *Request) { r.Name = "a\nb" }, false},
		{"name", func(r *Request) { r.Name = "a\x7fb" }, false},
		{"name", func(r *Request) { r.Name = "a\xffb" }, false},
		{"name", func(r *Request) { r.Name = "a\uFFFDb" }, true}, // the character itself
		{"holder", func(r *Request) { r.Holder = strings.Repeat("h", MaxHolder) }, true},
		{"holder", func(r *Request) { r.Holder = strings.Repeat("h", MaxHolder+1) }, false},
		{"holder", func(r *Request) { r.Holder = "" }, false},
		{"request_id", func(r *Request) { r.ID = strings.Repeat("i", MaxHolder) }, true},
		{"request_id", func(r *Request) { r.ID = strings.Repeat("i", MaxHolder+1) }, false},
		{"ticket", func(r *Request) { r.Ticket = &Ticket{Opaque: strings.Repeat("t", MaxTicket)} }, true},
		{"ticket", func(r *Request) { r.Ticket = &Ticket{Opaque: strings.Repeat("t", MaxTicket+1)} }, false},
		{"names", func(r *Request) { r.More = growing(MaxNames - 1) }, true},
		{"names", func(r *Request) { r.More = growing(MaxNames) }, false},
		{"names", func(r *Request) { r.More = []string{"n"} }, false},
		{"names", func(r *Request) { r.More = []string{"m"} }, false},
		{"names", func(r *Request) { r.More = []string{"o", "o"} }, false},
		{"names", func(r *Request) { r.More = []string{strings.Repeat("o", MaxName+1)} }, false},
		{"within", func(r *Request) { r.Within = growing(MaxWithin) }, true},
		{"within", func(r *Request) { r.Within = growing(MaxWithin + 1) }, false},
		{"within", func(r *Request) { r.Within = []string{""} }, false},
		{"value", func(r *Request) { r.Value = make([]byte, MaxValue) }, true},
		{"value", func(r *Request) { r.Value = make([]byte, MaxValue+1) }, false},
		{"value", func(r *Request) { r.Value, r.Mode = []byte("v"), Shared }, false},
		{"value", func(r *Request) { r.Value, r.Permits = []byte("v"), 2 }, false},
		{"value", func(r *Request) { r.Value, r.More = []byte("v"), growing(1) }, false},
		{"mode", func(r *Request) { r.Mode = Shared }, true},
		{"mode", func(r *Request) { r.Mode = Shared + 1 }, false},
		{"permits", func(r *Request) { r.Permits = MaxPermits }, true},
		{"permits", func(r *Request) { r.Permits = MaxPermits + 1 }, false},
		{"permits", func(r *Request) { r.Permits = -1 }, false},
		{"permits", func(r *Request) { r.Mode, r.Permits = Shared, 1 }, true},
		{"permits", func(r *Request) { r.Mode, r.Permits = Shared, 2 }, false},
		{"ttl", func(r *Request) { r.TTL = testCaps.MinTTL }, true},
		{"ttl", func(r *Request) { r.TTL = testCaps.MinTTL - 1 }, false},
		{"ttl", func(r *Request) { r.TTL = testCaps.MaxTTL }, true},
		{"ttl", func(r *Request) { r.TTL = testCaps.MaxTTL + 1 }, false},
		{"ttl", func(r *Request) { r.TTL = -1 }, false},
		{"lock_delay", func(r *Request) { r.LockDelay = MaxLockDelay }, true},
		{"lock_delay", func(r *Request) { r.LockDelay = MaxLockDelay + 1 }, false},
		{"lock_delay", func(r *Request) { r.LockDelay = -1 }, false},
		{"meta", func(r *Request) { r.Meta = entries(MaxMeta) }, true},
		{"meta", func(r *Request) { r.Meta = entries(MaxMeta + 1) }, false},
		{"meta key", func(r *Request) { r.Meta = map[string]string{strings.Repeat("k", MaxMetaKey): ""} }, true},
		{"meta key", func(r *Request) { r.Meta = map[string]string{strings.Repeat("k", MaxMetaKey+1): ""} }, false},
		{"meta[k]", func(r *Request) { r.Meta = map[string]string{"k": strings.Repeat("v", MaxMetaValue)} }, true},
		{"meta[k]", func(r *Request) { r.Meta = map[string]string{"k": strings.Repeat("v", MaxMetaValue+1)} }, false},
		{"meta[k]", func(r *Request) { r.Meta = map[string]string{"k": "\xff"} }, false},
	} {
		r := validRequest()
		c.change(r)
		err := r.Validate(&testCaps)
		if c.ok {
			if err != nil {
				t.Errorf("%s at its edge: %v", c.field, err)
			}
			continue
		}
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != c.field || !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%s past its edge: %v", c.field, err)
		}
	}
}

func FuzzValidateName(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "\xff", "\x00", "\uFFFD", strings.Repeat("x", MaxName+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := ValidateName("name", s)
		bad := len(s) == 0 || len(s) > MaxName || strings.ToValidUTF8(s, "") != s ||
			strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
		if (err != nil) != bad {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
