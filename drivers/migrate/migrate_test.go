package migrate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func openAny(t *testing.T, url string) driver.Conn {
	t.Helper()
	c, err := lock.OpenConn(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func request(name, holder string) *driver.Request {
	return &driver.Request{Name: name, Holder: holder, ID: "1", TTL: time.Minute}
}

func ref(r *driver.Request, g *driver.Grant) []driver.Ref {
	return []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
}

func grant(t *testing.T, c driver.Conn, r *driver.Request) *driver.Grant {
	t.Helper()
	g, _, err := c.Acquire(bounded(t), r)
	if err != nil || g == nil {
		t.Fatalf("%s for %s: %v, %v", r.Name, r.Holder, g, err)
	}
	return g
}

func held(t *testing.T, c driver.Conn, r *driver.Request, by string) {
	t.Helper()
	if _, _, err := c.Acquire(bounded(t), r); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("%s: %v, want it held %s", r.Name, err, by)
	}
}

func release(t *testing.T, c driver.Conn, refs []driver.Ref) {
	t.Helper()
	outcomes, err := c.Release(bounded(t), refs)
	if err != nil || outcomes[0].Err != nil {
		t.Fatalf("release: %v, %v", outcomes, err)
	}
}

// Beside users of either backend alone, one holds; and their tokens grow in
// the order of the grants.
func TestExcludesUsersOfOneBackend(t *testing.T) {
	t.Parallel()
	from, to := mem(t, ""), mem(t, lifted)
	old, next := openAny(t, from), openAny(t, to)
	c := openAny(t, URL(from, to, TokensOld))
	var last lease.Token
	grows := func(g *driver.Grant, who string) {
		t.Helper()
		if g.Token <= last {
			t.Errorf("%s: the token %d follows %d", who, g.Token, last)
		}
		last = g.Token
	}
	for range 3 {
		r := request("a", "alone")
		g := grant(t, old, r)
		grows(g, "old alone")
		held(t, c, request("a", "both"), "by the old one")
		release(t, old, ref(r, g))
		r = request("a", "both")
		g = grant(t, c, r)
		grows(g, "both")
		held(t, old, request("a", "alone"), "by both")
		held(t, next, request("a", "alone"), "by both")
		release(t, c, ref(r, g))
	}
	// The turn: from the first that begins with new tokens on, those that
	// began with old ones hand out new ones, too.
	turned := openAny(t, URL(from, to, TokensNew))
	late := openAny(t, URL(from, to, TokensOld))
	for range 3 {
		for who, on := range map[string]driver.Conn{"both, before": c, "both, turned": turned, "both, late": late, "new alone": next} {
			r := request("a", who)
			g := grant(t, on, r)
			grows(g, who)
			held(t, c, request("a", "other"), "by "+who)
			release(t, on, ref(r, g))
		}
	}
	if last < 9000000000000000 {
		t.Errorf("the token %d is not of the new backend", last)
	}
}

// A request that the new backend refuses leaves nothing on the old one.
func TestHalfAGrantIsTakenBack(t *testing.T) {
	t.Parallel()
	from, to := mem(t, ""), mem(t, lifted)
	old, next := openAny(t, from), openAny(t, to)
	c := openAny(t, URL(from, to, ""))
	blocker := request("a", "blocker")
	b := grant(t, next, blocker)
	held(t, c, request("a", "try"), "on the new one")
	free := request("a", "free")
	release(t, old, ref(free, grant(t, old, free)))

	// One that waits holds the old one, and is there when the new one is free.
	r := request("a", "waiter")
	r.Queue = true
	_, ticket, err := c.Acquire(bounded(t), r)
	if err != nil || ticket == nil {
		t.Fatalf("%v, %v", ticket, err)
	}
	held(t, old, request("a", "other"), "by the waiter")
	infos, err := c.List(bounded(t), &driver.ListRequest{Name: "a"})
	if err != nil || len(infos) != 1 || len(infos[0].Grants) != 1 || infos[0].Grants[0].Holder != "blocker" || infos[0].Waiting != 1 {
		t.Errorf("%+v, %v: want the blocker, and one that waits", infos, err)
	}
	release(t, next, ref(blocker, b))
	r.Ticket = ticket
	if _, err := c.Wait(bounded(t), r, ticket); err != nil {
		t.Fatal(err)
	}
	g := grant(t, c, r)
	if err := c.Cancel(bounded(t), r); err != nil {
		t.Fatal(err)
	}
	if outcomes, err := c.Renew(bounded(t), ref(r, g)); err != nil || !errors.Is(outcomes[0].Err, lease.ErrNotHeld) {
		t.Errorf("renewal after a cancel: %v, %v", outcomes, err)
	}
}

// What another connection was granted, as before a restart of a daemon, is
// found on the backends.
func TestLeasesOfAnotherConnection(t *testing.T) {
	t.Parallel()
	from, to := mem(t, ""), mem(t, lifted)
	for _, tokens := range []Tokens{TokensOld, TokensNew} {
		before, after := openAny(t, URL(from, to, tokens)), openAny(t, URL(from, to, tokens))
		r := request("a", "holder")
		g := grant(t, before, r)
		if outcomes, err := after.Renew(bounded(t), ref(r, g)); err != nil || outcomes[0].Err != nil || outcomes[0].TTL != time.Minute {
			t.Errorf("renewal: %v, %v", outcomes, err)
		}
		stale := ref(r, g)
		stale[0].Token--
		for what, call := range map[string]func(context.Context, []driver.Ref) ([]driver.Outcome, error){"renew": after.Renew, "release": after.Release} {
			if outcomes, err := call(bounded(t), stale); err != nil || !errors.Is(outcomes[0].Err, lease.ErrNotHeld) {
				t.Errorf("%s with a stale token: %v, %v", what, outcomes, err)
			}
		}
		release(t, after, ref(r, g))
		release(t, before, ref(r, grant(t, before, r)))
	}
}

// Holders of one backend alone are seen and revoked, by either's users.
func TestOperatorSeesBoth(t *testing.T) {
	t.Parallel()
	from, to := mem(t, ""), mem(t, lifted)
	old, next := openAny(t, from), openAny(t, to)
	c := openAny(t, URL(from, to, ""))
	tokens := map[string]lease.Token{
		"1 both": grant(t, c, request("1 both", "h")).Token,
		"2 new":  grant(t, next, request("2 new", "h")).Token,
		"3 old":  grant(t, old, request("3 old", "h")).Token,
	}
	infos, err := c.List(bounded(t), &driver.ListRequest{Max: 2})
	if err != nil || len(infos) != 2 || infos[0].Name != "1 both" || infos[1].Name != "2 new" {
		t.Errorf("%+v, %v", infos, err)
	}
	more, err := c.List(bounded(t), &driver.ListRequest{After: "2 new"})
	if err != nil || len(more) != 1 {
		t.Errorf("%+v, %v", more, err)
	}
	for _, in := range append(infos, more...) {
		if len(in.Grants) != 1 || in.Grants[0].Token != tokens[in.Name] {
			t.Errorf("%s: %+v, want the token %d", in.Name, in.Grants, tokens[in.Name])
		}
	}
	for name, token := range tokens {
		if err := c.Revoke(bounded(t), &driver.RevokeRequest{Name: name, Token: token, Break: true}); err != nil {
			t.Errorf("break %s: %v", name, err)
		}
		grant(t, c, request(name, "next"))
	}
}

// While one of the two is down nothing is granted, and what is half done is
// said to be unknown; when it is back, all goes on.
func TestOneBackendIsDown(t *testing.T) {
	t.Parallel()
	server := realserver.StartRedis(t)
	from, to := mem(t, ""), "redis://"+server.Addr()+"?timeout=1s"+lifted
	c := openAny(t, URL(from, to, ""))
	old := openAny(t, from)
	r := request("a", "holder")
	g := grant(t, c, r)
	server.Kill(t)
	if _, err := c.Renew(bounded(t), ref(r, g)); !errors.Is(err, lease.ErrUnavailable) && !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a renewal on one of them counts: %v", err)
	}
	b := request("b", "holder")
	if _, _, err := c.Acquire(bounded(t), b); !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("half a grant: %v; want that it is unknown", err)
	}
	held(t, old, request("b", "other"), "until it is cancelled")
	if err := c.Cancel(bounded(t), b); err == nil {
		t.Error("a cancel on one of them counts")
	}
	server.Start(t) // it has forgotten all
	if err := c.Cancel(bounded(t), b); err != nil {
		t.Error(err)
	}
	grant(t, c, request("b", "next"))
	if outcomes, err := c.Renew(bounded(t), ref(r, g)); err != nil || !errors.Is(outcomes[0].Err, lease.ErrNotHeld) {
		t.Errorf("renewal of what one has forgotten: %v, %v", outcomes, err)
	}
}

func TestTokenBaseTooSmall(t *testing.T) {
	t.Parallel()
	from, to := mem(t, lifted), mem(t, "")
	openAny(t, from)
	_, err := Open(bounded(t), URL(from, to, ""))
	var f *lease.FieldError
	if !errors.As(err, &f) || f.Field != "token_base" {
		t.Errorf("%v; want an error about token_base", err)
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	good := URL("mem://a", "mem://b?token_base=9000000000000000", TokensNew)
	for url, field := range map[string]string{
		"migrate://":                 "url",
		"migrate://host?from=a":      "url",
		"migrate://?from=%zz":        "url",
		"migrate://?from=mem://a":    "to",
		"migrate://?to=mem://a":      "from",
		good + "&tokens=new":         "tokens",
		good + "&colour=blue":        "colour",
		URL("a", "mem://b", ""):      "from",
		URL("mem://", "mem://", ""):  "to",
		URL(good, "mem://b", ""):     "from",
		URL("mem://a", good, ""):     "to",
		URL("no://a", "mem://b", ""): "url",
		URL("mem://a", "mem://b?token_base=9000000000000000", "both"): "tokens",
	} {
		_, err := Open(bounded(t), url)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v; want an error about %s", url, err, field)
		}
	}
	if _, err := Open(bounded(t), URL("mem://a", "redis://:secret@127.0.0.1:1?token_base=1", "")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error %v repeats a secret", err)
	}
}
