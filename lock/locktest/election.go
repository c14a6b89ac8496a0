package locktest

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var electionCases = []testCase{
	{"value_is_shown_with_the_grant", valueShown},
	{"value_is_replaced_by_its_holder_only", valueReplaced},
	{"value_limit", valueLimit},
	{"value_survives_a_restart", valueRestart},
	{"election_and_observer", election},
}

// campaigner is a request with a value.
func (s *suite) campaigner(holder, value string) *driver.Request {
	r := s.queued(holder)
	r.Value = []byte(value)
	return r
}

// value checks what List says of the case's name.
func (s *suite) value(holder, want string) {
	s.Helper()
	in := s.info(s.name)
	if in == nil || len(in.Grants) != 1 || in.Grants[0].Holder != holder || string(in.Grants[0].Value) != want {
		s.Errorf("List says %+v; want %s with the value %q", in, holder, want)
	}
}

func valueShown(s *suite) {
	a, b := s.campaigner("a", "at a\x00\xff"), s.campaigner("b", "at b")
	if s.lacks(s.caps.Election, a) {
		return
	}
	g := s.grant(s.conn, a)
	s.value("a", "at a\x00\xff")
	s.line(s.conn, b)
	s.value("a", "at a\x00\xff")
	s.release(s.conn, ref(a, g))
	gb := s.mustAwait(s.conn, b)
	s.value("b", "at b")
	s.release(s.conn, ref(b, gb))
	plain := s.request("c")
	s.grant(s.conn, plain)
	s.value("c", "")
}

func valueReplaced(s *suite) {
	a := s.campaigner("a", "one")
	if s.lacks(s.caps.Election, a) {
		return
	}
	g := s.grant(s.conn, a)
	live := ref(a, g)
	for _, value := range []string{"two", "", "three"} {
		if err := s.conn.SetValue(s.ctx, live, []byte(value)); err != nil {
			s.Fatalf("SetValue: %v", err)
		}
		s.value("a", value)
	}
	other, stale := live, live
	other.Holder, stale.Token = "b", live.Token-1
	s.refused("SetValue by another holder", s.conn.SetValue(s.ctx, other, []byte("no")), lease.ErrNotHeld)
	s.refused("SetValue with an old token", s.conn.SetValue(s.ctx, stale, []byte("no")), lease.ErrNotHeld)
	s.value("a", "three")
	s.release(s.conn, live)
	s.refused("SetValue after the release", s.conn.SetValue(s.ctx, live, []byte("no")), lease.ErrNotHeld)
	if in := s.info(s.name); in != nil {
		s.Errorf("List says %+v; want nothing", *in)
	}
}

func valueLimit(s *suite) {
	a := s.campaigner("a", strings.Repeat("v", driver.MaxValue))
	if s.lacks(s.caps.Election, a) {
		return
	}
	g := s.grant(s.conn, a)
	s.value("a", string(a.Value))
	past := append(slices.Clone(a.Value), 'v')
	s.refused("a value past its limit", s.conn.SetValue(s.ctx, ref(a, g), past), lease.ErrInvalid)
	bad := map[string]func(r *driver.Request){
		"too long":    func(r *driver.Request) { r.Value = past },
		"of a shared": func(r *driver.Request) { r.Mode = driver.Shared },
		"of a permit": func(r *driver.Request) { r.Permits = 2 },
	}
	if s.caps.Multi { // otherwise that is what is refused
		bad["of two names"] = func(r *driver.Request) { r.More = []string{r.Name + "/z"} }
	}
	for what, change := range bad {
		r := s.campaigner("b", "v")
		change(r)
		_, _, err := s.conn.Acquire(s.ctx, r)
		s.refused("a value "+what, err, lease.ErrInvalid)
	}
	s.value("a", string(a.Value))
}

func valueRestart(s *suite) {
	a := s.campaigner("a", "one")
	if s.lacks(s.caps.Election, a) || s.h.Restart == nil || !s.caps.Durable {
		return
	}
	g := s.grant(s.conn, a)
	if err := s.conn.SetValue(s.ctx, ref(a, g), []byte("two")); err != nil {
		s.Fatalf("SetValue: %v", err)
	}
	s.h.Restart(s.TB)
	in := s.infoBy(s.open(), s.name)
	if in == nil || len(in.Grants) != 1 || string(in.Grants[0].Value) != "two" {
		s.Errorf("List says %+v after a restart; want the value two", in)
	}
}

// election: candidates lead one after another, and an observer is told of
// each of them, of each change of the value, and of the vacancy.
func election(s *suite) {
	if !s.caps.Election || !s.caps.Watch {
		return // both have cases for their absence
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	observer, a, b := s.locker(), s.locker(), s.locker()
	next, stop := iter.Pull2(observer.Observe(ctx, s.name))
	defer stop()
	sees := func(token lock.Token, value string) {
		s.Helper()
		got, err, ok := next()
		for ok && err == nil && token != 0 && got.Vacant() {
			got, err, ok = next() // between two of its calls a candidate is not elected
		}
		if !ok || err != nil || got.Token != token || !bytes.Equal(got.Value, []byte(value)) || got.Vacant() != (token == 0) {
			s.Fatalf("the observer is told %+v, %v; want token %d with %q", got, err, token, value)
		}
	}
	sees(0, "")
	first, err := a.Campaign(s.ctx, s.name, []byte("a"), nil)
	if err != nil {
		s.Fatalf("Campaign: %v", err)
	}
	sees(first.Token(), "a")
	if err := first.Proclaim(s.ctx, []byte("a moved")); err != nil {
		s.Fatalf("Proclaim: %v", err)
	}
	sees(first.Token(), "a moved")
	second := make(chan *lock.Lease, 1)
	go func() {
		le, err := b.Campaign(s.ctx, s.name, []byte("b"), nil)
		if err != nil {
			s.Errorf("Campaign: %v", err)
		}
		second <- le
	}()
	s.until("the other campaigns", func() bool { in := s.info(s.name); return in != nil && in.Waiting == 1 })
	if err := first.Release(s.ctx); err != nil {
		s.Fatalf("Release: %v", err)
	}
	le := <-second
	if le == nil {
		return
	}
	sees(le.Token(), "b")
	s.refused("Proclaim after having resigned", first.Proclaim(s.ctx, nil), lock.ErrNotHeld)
	if err := le.Release(s.ctx); err != nil {
		s.Fatalf("Release: %v", err)
	}
	sees(0, "")
}
