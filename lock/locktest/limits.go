package locktest

import (
	"fmt"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var limitCases = []testCase{
	{"limits_at_the_edge", atTheEdge},
	{"limits_one_past", onePast},
	{"batch_limit", batchLimit},
	{"hostile_names_work", hostileNames},
	{"bad_names_are_refused", badNames},
	{"capabilities_are_stated", stated},
}

// stated checks that the backend says what it assumes, and nothing that cannot
// be.
func stated(s *suite) {
	c := s.caps
	if err := c.Assumes.Validate(); err != nil {
		s.Errorf("Caps.Assumes: %v", err)
	}
	if c.Backend == "" || c.Loss == "" || c.Clock == "" {
		s.Errorf("Backend %q, Loss %q and Clock %q must be stated", c.Backend, c.Loss, c.Clock)
	}
	if c.MinTTL <= 0 || c.MaxTTL < c.MinTTL || c.DeadWaiter <= 0 {
		s.Errorf("MinTTL %v, MaxTTL %v and DeadWaiter %v cannot be", c.MinTTL, c.MaxTTL, c.DeadWaiter)
	}
}

// fill pads s to n bytes.
func fill(s string, n int) string { return s + strings.Repeat("x", n-len(s)) }

// meta returns n entries of the largest size.
func meta(n, key, value int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fill(fmt.Sprintf("%02d", i), key)] = fill("", value)
	}
	return m
}

func atTheEdge(s *suite) {
	edge := map[string]func(r *driver.Request){
		"name":       func(r *driver.Request) { r.Name = fill(r.Name, driver.MaxName) },
		"holder":     func(r *driver.Request) { r.Holder = fill("", driver.MaxHolder) },
		"request id": func(r *driver.Request) { r.ID = fill("", driver.MaxHolder) },
		"no id":      func(r *driver.Request) { r.ID = "" },
		"least ttl":  func(r *driver.Request) { r.TTL = s.caps.MinTTL },
		"most ttl":   func(r *driver.Request) { r.TTL = s.caps.MaxTTL },
	}
	if s.caps.Permits {
		edge["permits"] = func(r *driver.Request) { r.Permits = driver.MaxPermits }
	}
	if s.caps.LockDelay {
		edge["lock delay"] = func(r *driver.Request) { r.LockDelay = driver.MaxLockDelay }
	}
	if s.caps.Meta {
		edge["meta"] = func(r *driver.Request) { r.Meta = meta(driver.MaxMeta, driver.MaxMetaKey, driver.MaxMetaValue) }
	}
	for what, change := range edge {
		r := s.request("holder")
		r.Name += "/" + what
		change(r)
		g, _, err := s.conn.Acquire(s.ctx, r)
		if err != nil || g == nil {
			s.Errorf("%s at its limit: %v, %v; want a grant", what, g, err)
			continue
		}
		if what != "least ttl" { // it may be over
			s.release(s.conn, ref(r, g))
		}
	}
}

func onePast(s *suite) {
	past := map[string]func(r *driver.Request){
		"no name":      func(r *driver.Request) { r.Name = "" },
		"name":         func(r *driver.Request) { r.Name = fill(r.Name, driver.MaxName+1) },
		"no holder":    func(r *driver.Request) { r.Holder = "" },
		"holder":       func(r *driver.Request) { r.Holder = fill("", driver.MaxHolder+1) },
		"request id":   func(r *driver.Request) { r.ID = fill("", driver.MaxHolder+1) },
		"ticket":       func(r *driver.Request) { r.Ticket = &driver.Ticket{Opaque: fill("", driver.MaxTicket+1)} },
		"mode":         func(r *driver.Request) { r.Mode = driver.Shared + 1 },
		"permits":      func(r *driver.Request) { r.Permits = driver.MaxPermits + 1 },
		"less permits": func(r *driver.Request) { r.Permits = -1 },
		"shared permits": func(r *driver.Request) {
			r.Mode, r.Permits = driver.Shared, 2
		},
		"less ttl":        func(r *driver.Request) { r.TTL = s.caps.MinTTL - 1 },
		"no ttl":          func(r *driver.Request) { r.TTL = 0 },
		"ttl":             func(r *driver.Request) { r.TTL = s.caps.MaxTTL + 1 },
		"lock delay":      func(r *driver.Request) { r.LockDelay = driver.MaxLockDelay + 1 },
		"less lock delay": func(r *driver.Request) { r.LockDelay = -time.Millisecond },
		"meta":            func(r *driver.Request) { r.Meta = meta(driver.MaxMeta+1, 2, 1) },
		"meta key":        func(r *driver.Request) { r.Meta = meta(1, driver.MaxMetaKey+1, 1) },
		"no meta key":     func(r *driver.Request) { r.Meta = map[string]string{"": "x"} },
		"meta value":      func(r *driver.Request) { r.Meta = meta(1, 2, driver.MaxMetaValue+1) },
		"meta text":       func(r *driver.Request) { r.Meta = map[string]string{"k": "\xff"} },
	}
	for what, change := range past {
		r := s.queued("holder")
		change(r)
		_, _, err := s.conn.Acquire(s.ctx, r)
		s.refused(what+" past its limit", err, lease.ErrInvalid)
	}
	if in := s.info(s.name); in != nil {
		s.Errorf("refused requests left %+v", *in)
	}
}

func batchLimit(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	refs := make([]driver.Ref, driver.MaxBatch+1)
	for i := range refs {
		refs[i] = ref(r, g)
		refs[i].Name = fmt.Sprint(s.name, "/", i)
	}
	refs[0].Name = s.name
	_, err := s.conn.Renew(s.ctx, refs)
	s.refused("Renew past the limit of a batch", err, lease.ErrInvalid)
	_, err = s.conn.Release(s.ctx, refs)
	s.refused("Release past the limit of a batch", err, lease.ErrInvalid)
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 {
		s.Errorf("List says %+v after refused calls; want the one grant", in)
	}
	for _, call := range []struct {
		what string
		do   func() ([]driver.Outcome, error)
	}{
		{"Renew", func() ([]driver.Outcome, error) { return s.conn.Renew(s.ctx, refs[:driver.MaxBatch]) }},
		{"Release", func() ([]driver.Outcome, error) { return s.conn.Release(s.ctx, refs[:driver.MaxBatch]) }},
	} {
		outcomes, err := call.do()
		if err != nil || len(outcomes) != driver.MaxBatch || outcomes[0].Err != nil {
			s.Errorf("%s at the limit: %d outcomes, error %v; want %d, the first good", call.what, len(outcomes), err, driver.MaxBatch)
		}
	}
	_, err = s.conn.List(s.ctx, &driver.ListRequest{Max: driver.MaxList + 1})
	s.refused("List past its limit", err, lease.ErrInvalid)
}

// hostile are suffixes of names that some encoding would spoil.
var hostile = []string{
	"/", "//", "/./..", "%2F", "%", "%zz", " ", " two  spaces ", "+", "?a=b&c", "#f", ":", "*", "{tag}", "[a]",
	`\`, `"`, "'", "<&>", "ünïcödé", "鎖", "🔒", "e\u0301", "\ufeff", "\u202e", "\ufffd", ".", "~",
}

func hostileNames(s *suite) {
	tokens := make(map[lease.Token]string)
	for _, suffix := range hostile {
		r := s.request("holder " + suffix)
		r.Name += suffix
		g, _, err := s.conn.Acquire(s.ctx, r)
		if err != nil || g == nil {
			s.Errorf("name with %q: %v, %v; want a grant", suffix, g, err)
			continue
		}
		tokens[g.Token] = r.Name
		if in := s.info(r.Name); in == nil || in.Name != r.Name || in.Grants[0].Holder != r.Holder {
			s.Errorf("List of the name with %q: %+v", suffix, in)
		}
	}
	found, err := s.conn.List(s.ctx, &driver.ListRequest{Prefix: s.name, Max: driver.MaxList})
	if err != nil || len(found) != len(hostile) {
		s.Errorf("List has %d names, error %v; want %d", len(found), err, len(hostile))
	}
}

func badNames(s *suite) {
	for _, bad := range []string{"\x00", "a\nb", "\x1f", "\x7f", "\xff", "a\xc3", "\xed\xa0\x80"} {
		r := s.queued("holder")
		r.Name += bad
		_, _, err := s.conn.Acquire(s.ctx, r)
		s.refused(fmt.Sprintf("name with %q", bad), err, lease.ErrInvalid)
		r = s.queued("holder" + bad)
		_, _, err = s.conn.Acquire(s.ctx, r)
		s.refused(fmt.Sprintf("holder with %q", bad), err, lease.ErrInvalid)
		err = s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name + bad})
		s.refused(fmt.Sprintf("Revoke of a name with %q", bad), err, lease.ErrInvalid)
	}
	if in := s.info(s.name); in != nil {
		s.Errorf("refused requests left %+v", *in)
	}
}
