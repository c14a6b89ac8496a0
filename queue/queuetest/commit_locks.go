package queuetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Locks is a connection to the locks in the store of the queues, as far as
// the suite needs one.
type Locks interface {
	// Acquire takes a lock for ttl without waiting.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (lease.Token, error)
	// Renew gives a lease its TTL anew, or says lease.ErrNotHeld.
	Renew(ctx context.Context, ref driver.LockRef, ttl time.Duration) error
	Release(ctx context.Context, ref driver.LockRef) error
	Close() error
}

// locks opens the locks beside the queues. Without any, a commit with locks
// must be ErrUnsupported.
func (s *suite) locks() Locks {
	s.Helper()
	if !s.commits() {
		return nil
	}
	if s.caps.Store == "" {
		_, err := s.conn.Commit(s.ctx, &driver.Txn{Release: []driver.LockRef{{Name: "n", Holder: "h", Token: 1}}})
		s.unsupported(err, "Commit that releases a lock")
		_, err = s.conn.Commit(s.ctx, &driver.Txn{Require: []driver.LockRef{{Name: "n", Holder: "h", Token: 1}}})
		s.unsupported(err, "Commit that requires a lock")
		return nil
	}
	if s.h.Locks == nil {
		s.Fatal("Caps.Store says that there are locks beside the queues, and Harness.Locks is missing")
	}
	l := s.h.Locks(s.T)
	s.Cleanup(func() {
		if err := l.Close(); err != nil {
			s.Errorf("Close of the locks: %v", err)
		}
	})
	return l
}

// held is a lock for the time of a check.
func (s *suite) held(l Locks, n string) driver.LockRef {
	s.Helper()
	ref := driver.LockRef{Name: s.name(n), Holder: "suite"}
	var err error
	ref.Token, err = l.Acquire(s.ctx, ref.Name, ref.Holder, time.Minute)
	s.must(err, "Acquire")
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.h.Patience)
		defer cancel()
		if err := l.Release(ctx, ref); err != nil && !errors.Is(err, lease.ErrNotHeld) {
			s.Errorf("Release: %v", err)
		}
	})
	return ref
}

// Together with the rest, and they are free for others.
func commitReleases(s *suite) {
	l := s.locks()
	if l == nil {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	a, b := s.held(l, "a"), s.held(l, "b")
	s.bodies(to(in), "1")
	t := &driver.Txn{ID: s.name("id"), Settle: acks(s.one(in, "1")), Publish: s.posts(out, "x"), Release: []driver.LockRef{a, b}}
	s.commit(t)
	for _, ref := range t.Release {
		s.is(l.Renew(s.ctx, ref, time.Minute), lease.ErrNotHeld, "Renew after the commit")
		token, err := l.Acquire(s.ctx, ref.Name, "another", time.Minute)
		s.must(err, "Acquire by another after the commit")
		if token <= ref.Token {
			s.Errorf("token %v after %v", token, ref.Token)
		}
		if !s.commit(t).Repeated {
			s.Error("a repeat does not say so")
		}
		next := driver.LockRef{Name: ref.Name, Holder: "another", Token: token}
		s.must(l.Release(s.ctx, next), "Release by the next holder, after a repeat")
	}
	s.want(out, "x")
}

func commitRequires(s *suite) {
	l := s.locks()
	if l == nil {
		return
	}
	out := s.queue("out")
	a := s.held(l, "a")
	s.commit(&driver.Txn{Require: []driver.LockRef{a}, Publish: s.posts(out, "x")})
	s.commit(&driver.Txn{Require: []driver.LockRef{a}})
	s.must(l.Renew(s.ctx, a, time.Minute), "Renew after the commit")
	s.must(l.Release(s.ctx, a), "Release after the commit")
	s.fails(&driver.Txn{Require: []driver.LockRef{a}, Publish: s.posts(out, "y")}, driver.PartRequire, 0, lease.ErrNotHeld)
	s.want(out, "x")
}

// Whichever of its parts differs; the other locks stay held.
func commitLockNotHeld(s *suite) {
	l := s.locks()
	if l == nil {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	a := s.held(l, "a")
	s.bodies(to(in), "1")
	d := s.one(in, "1")
	for what, change := range map[string]func(*driver.LockRef){
		"name":   func(r *driver.LockRef) { r.Name += "'" },
		"holder": func(r *driver.LockRef) { r.Holder += "'" },
		"token":  func(r *driver.LockRef) { r.Token-- },
	} {
		wrong := a
		change(&wrong)
		s.Logf("another %s", what)
		for _, release := range []bool{true, false} {
			t := &driver.Txn{Settle: acks(d), Publish: s.posts(out, "x"), Release: []driver.LockRef{a}, Require: []driver.LockRef{wrong}}
			if release {
				t.Release, t.Require = []driver.LockRef{a, wrong}, nil
				s.fails(t, driver.PartRelease, 1, lease.ErrNotHeld)
			} else {
				s.fails(t, driver.PartRequire, 0, lease.ErrNotHeld)
			}
		}
	}
	many := make([]driver.LockRef, driver.MaxCommitLocks+1)
	for i := range many {
		many[i] = driver.LockRef{Name: s.name(fmt.Sprint(i)), Holder: "h", Token: 1}
	}
	for what, t := range map[string]*driver.Txn{
		"too many locks":     {Release: many[1:], Require: many[:1]},
		"a lock twice":       {Release: []driver.LockRef{a}, Require: []driver.LockRef{a}},
		"a lock without one": {Require: []driver.LockRef{{Name: a.Name, Holder: a.Holder}}},
	} {
		_, err := s.conn.Commit(s.ctx, t)
		s.field(err, what)
	}
	s.must(l.Renew(s.ctx, a, time.Minute), "Renew after commits that failed")
	s.none(out)
	s.stillHeld(d)
}
