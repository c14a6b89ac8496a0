package locktest

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var operatorCases = []testCase{
	{"revoke_refuses_renewal_until_the_deadline", revoke},
	{"break_grants_at_once", breakNow},
	{"revoke_of_what_is_not_held", revokeNotHeld},
	{"revoked_holder_is_told", revokedHolder},
	{"list_describes", listDescribes},
	{"list_pages", listPages},
}

func revoke(s *suite) {
	r := s.request("holder")
	r.TTL = s.short
	g := s.grant(s.conn, r)
	err := s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name, Token: g.Token})
	if !s.caps.Revoke {
		s.refused("Revoke", err, lease.ErrUnsupported)
		return
	}
	if err != nil {
		s.Fatalf("Revoke: %v", err)
	}
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 || !in.Grants[0].Revoked {
		s.Errorf("List says %+v after Revoke; want one revoked grant", in)
	}
	_, _, err = s.conn.Acquire(s.ctx, s.request("try"))
	s.refused("a try before the deadline", err, driver.ErrHeld)
	s.refused("Renew", one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)})), lease.ErrRevoked)
	s.mustAwait(s.conn, s.queued("next"))
}

func breakNow(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	next := s.queued("next")
	s.line(s.conn, next)
	err := s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name, Break: true})
	if !s.caps.Break {
		s.refused("Break", err, lease.ErrUnsupported)
		return
	}
	if err != nil {
		s.Fatalf("Break: %v", err)
	}
	if got := s.mustAwait(s.conn, next); got.Token <= g.Token {
		s.Errorf("token %d granted after the broken %d", got.Token, g.Token)
	}
	err = one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)}))
	s.refused("Renew by the broken holder", err, lease.ErrBroken)
	s.refused("Release by the broken holder", one(s.conn.Release(s.ctx, []driver.Ref{ref(r, g)})), lease.ErrNotHeld)
}

func revokeNotHeld(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	for _, brk := range []bool{false, true} {
		want := lease.ErrNotHeld
		if brk && !s.caps.Break || !brk && !s.caps.Revoke {
			want = lease.ErrUnsupported
		}
		err := s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name + "/free", Break: brk})
		s.refused("Revoke of a free name", err, want)
		err = s.conn.Revoke(s.ctx, &driver.RevokeRequest{Name: s.name, Token: g.Token + 1, Break: brk})
		s.refused("Revoke of another token", err, want)
	}
	if err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
		s.Errorf("Renew by the holder: %v", err)
	}
}

// revokedHolder: the context of a holder ends with the cause.
func revokedHolder(s *suite) {
	l := s.locker()
	for _, act := range []struct {
		brk, has bool
		cause    error
	}{{false, s.caps.Revoke, lock.ErrRevoked}, {true, s.caps.Break, lock.ErrBroken}} {
		le, err := l.Acquire(s.ctx, s.name, &lock.Options{TTL: s.short})
		if err != nil {
			s.Fatalf("Acquire: %v", err)
		}
		err = l.Revoke(s.ctx, s.name, le.Token(), &lock.RevokeOptions{Break: act.brk})
		if !act.has {
			s.refused("Revoke", err, lock.ErrUnsupported)
			if err := le.Release(s.ctx); err != nil {
				s.Errorf("Release: %v", err)
			}
			continue
		}
		if err != nil {
			s.Fatalf("Revoke: %v", err)
		}
		s.ends(le)
		s.refused("cause", context.Cause(le.Context()), act.cause)
		s.refused("Release", le.Release(s.ctx), lock.ErrNotHeld)
	}
}

func listDescribes(s *suite) {
	if in := s.info(s.name); in != nil {
		s.Errorf("List of a free name: %+v", *in)
	}
	meta := map[string]string{"host": "a 1", "note": "ünï/%"}
	r := s.request("holder")
	r.Meta = meta
	if s.lacks(s.caps.Meta, r) {
		meta, r.Meta = nil, nil
	}
	g := s.grant(s.conn, r)
	for i := range 3 {
		w := s.queued(fmt.Sprint("waiter ", i))
		s.line(s.conn, w)
		s.stand(s.conn, w)
	}
	in := s.info(s.name)
	if in == nil || len(in.Grants) != 1 || in.Name != s.name || in.Mode != driver.Exclusive || in.Permits != 1 || in.Waiting != 3 || in.ClosedFor != 0 {
		s.Fatalf("List says %+v; want an exclusive lock with one grant and three waiters", in)
	}
	got := in.Grants[0]
	switch {
	case got.Holder != "holder" || got.Token != g.Token || got.TTL != g.TTL || got.Revoked:
		s.Errorf("the grant is described as %+v", got)
	case got.Held < 0 || got.Remaining <= 0 || got.Remaining > g.TTL:
		s.Errorf("held %v, remaining %v of %v", got.Held, got.Remaining, g.TTL)
	case !maps.Equal(got.Meta, meta):
		s.Errorf("metadata %v; want %v", got.Meta, meta)
	}
	for i, w := range in.Waiters {
		if s.caps.FIFO && w.Holder != fmt.Sprint("waiter ", i) || w.Position != i+1 || w.Waiting < 0 {
			s.Errorf("waiter %d is described as %+v", i, w)
		}
	}
}

func listPages(s *suite) {
	const names = 7
	want := make([]string, names)
	for i := range names {
		r := s.request("holder")
		r.Name = fmt.Sprintf("%s/%d", s.name, i)
		want[i] = r.Name
		s.grant(s.conn, r)
	}
	other := s.request("holder")
	other.Name = strings.TrimSuffix(s.name, s.name[len(s.name)-1:]) + "~" // sorts behind, shares most
	s.grant(s.conn, other)
	for _, size := range []int{1, 3, names, names + 1} {
		var got []string
		after := ""
		for {
			page, err := s.conn.List(s.ctx, &driver.ListRequest{Prefix: s.name + "/", After: after, Max: size})
			if err != nil {
				s.Fatalf("List: %v", err)
			}
			if len(page) > size || len(got) > names {
				s.Fatalf("List of up to %d returned %d, after %d", size, len(page), len(got))
			}
			if len(page) == 0 {
				break
			}
			for _, in := range page {
				got = append(got, in.Name)
			}
			after = got[len(got)-1]
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			s.Errorf("pages of %d list %q; want %q", size, got, want)
		}
	}
	n := 0
	for in, err := range s.locker().List(s.ctx, s.name+"/") {
		if err != nil || in.Name != want[n] {
			s.Fatalf("Locker.List: %v, %v; want %q", in, err, want[n])
		}
		n++
	}
	if n != names {
		s.Errorf("Locker.List has %d names; want %d", n, names)
	}
}
