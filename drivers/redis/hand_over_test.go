package redis

import (
	"bytes"
	"context"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// releaseWith releases what a request was granted and takes the attempt of
// another one along. It returns the token that this was granted, 0 if none.
func releaseWith(ctx context.Context, t *testing.T, c *conn, of *driver.Request, token lease.Token, next *driver.Request) lease.Token {
	t.Helper()
	attempt, err := c.attempt(next, c.wakes.register(ctx, claimOf(next)))
	if err != nil {
		t.Fatal(err)
	}
	k := c.call(releaseScript, of.Name, append([]any{of.Holder, token.String()}, attempt.args[:len(attempt.args)-1]...)...)
	k.next, attempt.done = attempt, make(chan struct{})
	if err := c.run(ctx, k); err != nil {
		t.Fatal(err)
	}
	<-attempt.done
	if attempt.err != nil {
		return 0
	}
	g, _, err := c.acquired(next, nil, attempt)
	if err != nil || g == nil {
		t.Fatalf("the attempt that came along: %v, %v", g, err)
	}
	return g.Token
}

// TestHandOverInOneScript: a release grants to the waiter whose attempt it takes
// along, and what is stored then is what an acquire would have stored. Where
// that one may not have it, the release is a release and nothing more.
func TestHandOverInOneScript(t *testing.T) {
	t.Parallel()
	s := realserver.SharedRedis(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis://"+s.Addr()).(*conn)
	ahead := time.Now().Add(time.Hour).UnixMicro()
	for what, v := range map[string]struct {
		permits int
		alter   func(next *driver.Request, name string)
		granted bool
		waits   int // in the end
	}{
		"one":     {permits: 1, granted: true},
		"permits": {permits: 3, granted: true},
		"more": {permits: 1, granted: true, alter: func(next *driver.Request, _ string) {
			next.Meta, next.Value, next.LockDelay = map[string]string{"k": "v"}, []byte("value"), time.Second
		}},
		"numbers ahead of the clock": {permits: 1, granted: true, alter: func(_ *driver.Request, name string) {
			mustRedis(ctx, t, s, "SET", keysOf(DefaultPrefix, name)[4], strconv.FormatInt(ahead, 10))
		}},
		"another request": {permits: 1, waits: 1, alter: func(next *driver.Request, _ string) { next.ID = "2" }},
		"shared":          {permits: 1, waits: 1, alter: func(next *driver.Request, _ string) { next.Mode = driver.Shared }},
		"cancelled": {permits: 1, alter: func(next *driver.Request, _ string) {
			if err := c.Cancel(ctx, next); err != nil {
				t.Fatal(err)
			}
		}},
		"not the first": {permits: 1, waits: 2, alter: func(next *driver.Request, _ string) {
			next.Holder = "second"
			if _, tk, err := c.Acquire(ctx, next); err != nil || tk == nil {
				t.Fatal(tk, err)
			}
		}},
	} {
		name := drivertest.Fresh(t)
		request := func(holder string) *driver.Request {
			return &driver.Request{Name: name, Holder: holder, ID: "1", TTL: time.Minute, Permits: v.permits, Queue: true}
		}
		var last *driver.Grant
		for i := range v.permits {
			var err error
			if last, _, err = c.Acquire(ctx, request("holder"+strconv.Itoa(i))); err != nil || last == nil {
				t.Fatal(last, err)
			}
		}
		next := request("next")
		if _, tk, err := c.Acquire(ctx, next); err != nil || tk == nil {
			t.Fatal(tk, err)
		}
		if v.alter != nil {
			v.alter(next, name)
		}
		of := request("holder" + strconv.Itoa(v.permits-1))
		if got := releaseWith(ctx, t, c, of, last.Token+1, next); got != 0 {
			t.Errorf("%s: a release with another token granted %d", what, got)
		}
		got := releaseWith(ctx, t, c, of, last.Token, next)
		if v.granted != (got > last.Token) {
			t.Errorf("%s: token %d after %d", what, got, last.Token)
		}
		if what == "numbers ahead of the clock" && got != lease.Token(ahead)+1 {
			t.Errorf("%s: token %d after %d", what, got, ahead)
		}
		infos, err := c.List(ctx, &driver.ListRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if v.waits == 0 && !v.granted {
			if len(infos) != 0 {
				t.Errorf("%s: left %+v", what, infos)
			}
			continue
		}
		if len(infos) != 1 || infos[0].Waiting != v.waits {
			t.Fatalf("%s: %+v; want %d in line", what, infos, v.waits)
		}
		if v.granted {
			record := mustRedis(ctx, t, s, "HGET", keysOf(DefaultPrefix, name)[0], "g:next")
			if delay := "\n" + micros(next.LockDelay) + "\n00\n"; !strings.Contains(record, delay) {
				t.Errorf("%s: the record %q is without %q", what, record, delay)
			}
			checkGranted(ctx, t, c, next, got, infos[0].Grants, v.permits)
		}
	}
}

// checkGranted compares what is stored of a grant with its request, and uses it.
func checkGranted(ctx context.Context, t *testing.T, c *conn, r *driver.Request, token lease.Token, grants []driver.GrantInfo, all int) {
	t.Helper()
	if len(grants) != all {
		t.Fatalf("%d grants are there; want %d", len(grants), all)
	}
	for i := range grants {
		g := &grants[i]
		if g.Holder != r.Holder {
			continue
		}
		if g.Token != token || g.TTL != r.TTL || g.Remaining > r.TTL || g.Remaining < r.TTL/2 ||
			!maps.Equal(g.Meta, r.Meta) || !bytes.Equal(g.Value, r.Value) {
			t.Errorf("stored is %+v; want token %d and %+v", g, token, r)
		}
		if again, _, err := c.Acquire(ctx, r); err != nil || again == nil || again.Token != token {
			t.Errorf("a repeat of the request: %+v, %v", again, err)
		}
		refs := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: token, TTL: r.TTL}}
		if out, err := c.Renew(ctx, refs); err != nil || out[0].Err != nil {
			t.Errorf("Renew: %v, %v", out, err)
		}
		if out, err := c.Release(ctx, refs); err != nil || out[0].Err != nil {
			t.Errorf("Release: %v, %v", out, err)
		}
		return
	}
	t.Errorf("%s has no grant", r.Holder)
}
