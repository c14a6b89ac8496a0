package locktest

import (
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var tokenCases = []testCase{
	{"token_grows_across_releases", tokenGrows},
	{"token_grows_across_expiry", tokenGrowsExpiry},
	{"token_fixed_for_one_grant", tokenFixed},
	{"stale_token_refused", staleToken},
}

func tokenGrows(s *suite) {
	var last lease.Token
	for i := range 20 {
		r := s.request("holder")
		r.ID = string(rune('a' + i))
		g := s.grant(s.conn, r)
		if g.Token <= last {
			s.Fatalf("token %d granted after %d", g.Token, last)
		}
		last = g.Token
		s.release(s.conn, ref(r, g)) // the name's state is gone now
	}
}

func tokenGrowsExpiry(s *suite) {
	r := s.request("dead")
	r.TTL = s.short
	g := s.grant(s.conn, r)
	next := s.mustAwait(s.open(), s.queued("next"))
	if next.Token <= g.Token {
		s.Errorf("token %d granted after the expired %d", next.Token, g.Token)
	}
}

func tokenFixed(s *suite) {
	r := s.request("holder")
	g := s.grant(s.conn, r)
	for range 3 {
		if err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
			s.Fatalf("Renew: %v", err)
		}
	}
	in := s.info(s.name)
	if in == nil || len(in.Grants) != 1 || in.Grants[0].Token != g.Token {
		s.Errorf("List says %+v after renewals; want one grant with token %d", in, g.Token)
	}
}

// staleToken: whoever was overtaken changes nothing.
func staleToken(s *suite) {
	old := s.request("old")
	before := s.grant(s.conn, old)
	s.release(s.conn, ref(old, before))
	r := s.request("new")
	g := s.grant(s.conn, r)

	stale := ref(r, g)
	stale.Token = before.Token
	other := ref(r, g)
	other.Holder = "old"
	unknown := ref(r, g)
	unknown.Name += "/unknown"
	for what, wrong := range map[string]driver.Ref{
		"the old holder and token": ref(old, before), "the old token": stale,
		"the old holder": other, "a name without holder": unknown,
	} {
		s.refused("Renew with "+what, one(s.conn.Renew(s.ctx, []driver.Ref{wrong})), lease.ErrNotHeld)
		s.refused("Release with "+what, one(s.conn.Release(s.ctx, []driver.Ref{wrong})), lease.ErrNotHeld)
	}
	if err := one(s.conn.Renew(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
		s.Errorf("Renew by the holder after stale calls: %v", err)
	}
}
