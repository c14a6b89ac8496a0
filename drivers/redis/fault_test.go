package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestBlackHoleEndsHolderFirst cuts a holder of 100 locks off.
func TestBlackHoleEndsHolderFirst(t *testing.T) {
	drivertest.BlackHole{
		Addr: realserver.SharedRedis(t).Addr(), URL: func(addr string) string { return "redis://" + addr },
		Holders: 1, Names: 100, TTL: time.Second,
	}.Run(t)
}

// knowScripts has the server know all scripts: otherwise the lost reply would
// be that it does not.
func knowScripts(ctx context.Context, t testing.TB, c driver.Conn) {
	t.Helper()
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "h", TTL: time.Minute}
	g, _, err := c.Acquire(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	refs := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
	_, err = c.Renew(ctx, refs)
	_, err2 := c.Release(ctx, refs)
	_, err3 := c.List(ctx, &driver.ListRequest{Name: r.Name})
	if err := errors.Join(err, err2, err3, c.Cancel(ctx, r)); err != nil {
		t.Fatal(err)
	}
}

// TestLostReplies: a repeat gets the same, and nothing is stuck.
func TestLostReplies(t *testing.T) {
	addr := realserver.SharedRedis(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, "redis://"+p.Addr()), drivertest.OpenConn(t, "redis://"+addr)
	knowScripts(ctx, t, other)
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "holder", ID: "1", TTL: 30 * time.Second}
	grant := func() *driver.GrantInfo {
		infos, err := other.List(ctx, &driver.ListRequest{Name: r.Name})
		if err != nil {
			t.Fatal(err)
		}
		if len(infos) == 0 || len(infos[0].Grants) == 0 {
			return nil
		}
		return &infos[0].Grants[0]
	}
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, _, err := c.Acquire(ctx, r); return err },
		func() bool { return grant() != nil })
	first := grant().Token
	g, _, err := c.Acquire(ctx, r)
	if err != nil || g.Token != first {
		t.Fatalf("the repeat of an acquire: %+v, %v; want token %d", g, err, first)
	}
	ref := driver.Ref{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: time.Minute}
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, err := c.Renew(ctx, []driver.Ref{ref}); return err },
		func() bool { return grant().Remaining > 45*time.Second })
	if out, err := c.Renew(ctx, []driver.Ref{ref}); err != nil || out[0].Err != nil {
		t.Errorf("the repeat of a renewal: %v, %v", out, err)
	}
	if got := grant().Token; got != first {
		t.Errorf("token %d after a renewal, %d before", got, first)
	}
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, err := c.Release(ctx, []driver.Ref{ref}); return err },
		func() bool { return grant() == nil })
	if out, err := c.Release(ctx, []driver.Ref{ref}); err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("the repeat of a release: %v, %v", out, err)
	}
	if g, _, err = other.Acquire(ctx, &driver.Request{Name: r.Name, Holder: "next", TTL: time.Minute}); err != nil || g.Token <= first {
		t.Errorf("the next: %+v, %v", g, err)
	}
}

// TestLateRequest: an acquire that reaches the server after its Cancel does
// nothing.
func TestLateRequest(t *testing.T) {
	addr := realserver.SharedRedis(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, "redis://"+p.Addr()), drivertest.OpenConn(t, "redis://"+addr)
	knowScripts(ctx, t, other)
	c.(*conn).wakes.register(ctx, claim{name: "so that it has subscribed"})
	for _, held := range []bool{false, true} {
		name := drivertest.Fresh(t)
		r := &driver.Request{Name: name, Holder: "late", ID: "1", TTL: time.Minute, Queue: true}
		if held {
			if _, _, err := other.Acquire(ctx, &driver.Request{Name: name, Holder: "holder", TTL: time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
		p.Swallow(drivertest.ToServer)
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if _, _, err := c.Acquire(short, r); !errors.Is(err, lease.ErrUnknown) {
			t.Fatalf("acquire in the dark: %v", err)
		}
		cancel()
		// The Cancel takes another way, as over a new connection.
		late := c.(*conn)
		cancelled := make(chan error, 1)
		k := late.call(cancelScript, name, r.Holder, r.ID, late.id, late.number.Add(1))
		go func() { cancelled <- other.(*conn).run(ctx, k) }()
		if err := <-cancelled; err != nil {
			t.Fatal(err)
		}
		p.Heal()
		// What comes after it on the same connection has it done.
		drivertest.Until(ctx, t, "the late request has come", func() bool {
			return late.run(ctx, late.call(describeScript, "nothing", 1)) == nil
		})
		infos, err := other.List(ctx, &driver.ListRequest{Name: name})
		if err != nil || !held && len(infos) != 0 || held && (infos[0].Waiting != 0 || infos[0].Grants[0].Holder != "holder") {
			t.Errorf("%s: the late request left %+v, %v", name, infos, err)
		}
		if g, tk, err := c.Acquire(ctx, r); err != nil || held != (g == nil) || held != (tk != nil) {
			t.Errorf("%s: a new attempt after the Cancel: %v, %v, %v", name, g, tk, err)
		}
	}
}

// TestLostWakeups: waiters whose subscription is killed are granted all the
// same.
func TestLostWakeups(t *testing.T) {
	s := realserver.SharedRedis(t)
	ctx := drivertest.Bounded(t)
	a, b := drivertest.OpenLocker(t, "redis://"+s.Addr()), drivertest.OpenLocker(t, "redis://"+s.Addr())
	name := drivertest.Fresh(t)
	held, err := a.Acquire(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan time.Time, 1)
	go func() {
		if _, err := b.Acquire(ctx, name, nil); err != nil {
			t.Error(err)
		}
		granted <- time.Now()
	}()
	drivertest.Waiting(ctx, t, a, name, 1)
	if answer, err := realserver.Redis(ctx, s.Addr(), "CLIENT", "KILL", "TYPE", "pubsub"); err != nil || answer == "0" {
		t.Fatalf("CLIENT KILL: %s, %v", answer, err)
	}
	released := time.Now()
	if err := held.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if took := (<-granted).Sub(released); took > checkPeriod+500*time.Millisecond {
		t.Errorf("granted after %v; a waiter looks every %v", took, checkPeriod)
	}
}

// TestServerRestart kills a server that keeps nothing: it is as after FLUSHALL.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedis(t)
	drivertest.Failover{URL: "redis://" + s.Addr(), Name: "restart", TTL: failoverTTL, Kill: func() { s.Restart(t) }}.Run(t)
}

// TestRestartOfDurableServer: with an append-only file synced each time, grants
// and the line survive.
func TestRestartOfDurableServer(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	ctx := drivertest.Bounded(t)
	a, b := drivertest.OpenLocker(t, "redis://"+s.Addr()), drivertest.OpenLocker(t, "redis://"+s.Addr())
	held, err := a.Acquire(ctx, "durable", &lock.Options{TTL: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan *lock.Lease, 1)
	go func() {
		le, err := b.Acquire(ctx, "durable", nil)
		if err != nil {
			t.Error(err)
		}
		granted <- le
	}()
	drivertest.Waiting(ctx, t, a, "durable", 1)
	s.Restart(t)
	drivertest.Until(ctx, t, "the holder renews", func() bool { return held.Renew(ctx) == nil })
	select {
	case <-granted:
		t.Error("granted to the second while the first holds it")
	default:
	}
	drivertest.Waiting(ctx, t, a, "durable", 1) // it came back
	if err := held.Release(ctx); err != nil {
		t.Errorf("Release: %v", err)
	}
	if le := <-granted; le != nil && le.Token() <= held.Token() {
		t.Errorf("token %d after %d", le.Token(), held.Token())
	}
}

// TestTokenOutlivesItsCounter: neither FLUSHALL nor eviction nor the end of its
// time takes a token back.
func TestTokenOutlivesItsCounter(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis://"+s.Addr()+"?fence_keep=1s&token_base=9223372036854775808")
	counter := keysOf(DefaultPrefix, "counter")[4]
	last := MaxTokenBase
	for i, forget := range []func(){
		func() {},
		func() { mustRedis(ctx, t, s, "FLUSHALL") },
		func() { mustRedis(ctx, t, s, "UNLINK", counter) },
		func() {
			drivertest.Until(ctx, t, "the counter ends", func() bool { return mustRedis(ctx, t, s, "EXISTS", counter) == "0" })
		},
	} {
		r := &driver.Request{Name: "counter", Holder: "h", ID: fmt.Sprint(i), TTL: time.Minute}
		g, _, err := c.Acquire(ctx, r)
		if err != nil || g.Token <= last {
			t.Fatalf("grant %d: %+v, %v; the last token was %d", i, g, err, last)
		}
		last = g.Token
		if out, err := c.Release(ctx, []driver.Ref{{Name: "counter", Holder: "h", Token: g.Token}}); err != nil || out[0].Err != nil {
			t.Fatalf("Release: %v, %v", out, err)
		}
		forget()
	}
}

func mustRedis(ctx context.Context, t testing.TB, s *realserver.Server, command ...string) string {
	t.Helper()
	answer, err := realserver.Redis(ctx, s.Addr(), command...)
	if err != nil || strings.HasPrefix(answer, "-") {
		t.Fatalf("%v: %s, %v", command, answer, err)
	}
	return answer
}
