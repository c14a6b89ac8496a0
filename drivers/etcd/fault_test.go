package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// quick has clients with the shortest session, so that tests of it are short.
func quick(addrs ...string) string { return "etcd://" + strings.Join(addrs, ",") + "?session=2s" }

// many returns the number in an environment variable, which makes a test
// longer than it is in CI.
func many(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s must be a number, is %q", name, text)
	}
	return n
}

// TestBlackHoleEndsHolderFirst cuts a holder of 100 locks off.
// LOCKKEEPER_HOLDERS has as many holders with ten locks each instead.
func TestBlackHoleEndsHolderFirst(t *testing.T) { // with nothing beside it: all must be held when it begins
	b := drivertest.BlackHole{
		Addr: realserver.SharedEtcd(t).Addr(), URL: func(addr string) string { return quick(addr) },
		Holders: 1, Names: 100, TTL: 3 * time.Second,
	}
	if n := many(t, "LOCKKEEPER_HOLDERS", 0); n > 0 {
		b.Holders, b.Names = n, 10
	}
	b.Run(t)
}

func TestStoppedHolder(t *testing.T) {
	t.Parallel()
	drivertest.StoppedHolder(t, quick(realserver.SharedEtcd(t).Addr()), MinTTL)
}

func TestKilledHeadIsPassed(t *testing.T) {
	t.Parallel()
	drivertest.KilledHeadIsPassed(t, quick(realserver.SharedEtcd(t).Addr()), MinTTL)
}

// warm has a client keep a lease for a TTL, so that the next grant is one
// transaction.
func warm(ctx context.Context, t testing.TB, c driver.Conn, ttl time.Duration) {
	t.Helper()
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "h", TTL: ttl}
	g, _, err := c.Acquire(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}}); err != nil || out[0].Err != nil {
		t.Fatal(out, err)
	}
	// However slow the machine is: a lease that is a second old is renewed
	// before it is used.
	p := c.(*conn).leases
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, kept := range p.idle {
		for _, l := range kept {
			l.fresh = p.c.clock.Now().Add(ttl / 4)
		}
	}
}

// again repeats a call whose connection is being made anew, as the portable
// layer does.
func again(ctx context.Context, t testing.TB, call func() error) {
	t.Helper()
	drivertest.Until(ctx, t, "the server is reached again", func() bool {
		err := call()
		if err != nil && !errors.Is(err, lease.ErrUnknown) && !errors.Is(err, lease.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// TestLostReplies: a repeat gets the same, and nothing is stuck.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedEtcd(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, quick(p.Addr())), drivertest.OpenConn(t, quick(addr))
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
	warm(ctx, t, c, r.TTL)
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, _, err := c.Acquire(ctx, r); return err },
		func() bool { return grant() != nil })
	first := grant().Token
	var g *driver.Grant
	again(ctx, t, func() (err error) { g, _, err = c.Acquire(ctx, r); return err })
	if g.Token != first {
		t.Fatalf("the repeat of an acquire: %+v; want token %d", g, first)
	}

	// The first half of a renewal is a look: this is the other one.
	refs := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
	found, err := other.(*conn).find(ctx, refs)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Until(ctx, t, "the lease is older", func() bool { return grant().Remaining < 28*time.Second })
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error {
		_, err := c.(*conn).leases.keepAlive(ctx, []clientv3.LeaseID{clientv3.LeaseID(found[0].kv.Lease)})
		return err
	}, func() bool { return grant().Remaining > 29*time.Second })
	again(ctx, t, func() error {
		out, err := c.Renew(ctx, refs)
		if err == nil && (out[0].Err != nil || out[0].TTL != r.TTL) {
			t.Errorf("the repeat of a renewal: %+v", out)
		}
		return err
	})
	if got := grant().Token; got != first {
		t.Errorf("token %d after a renewal, %d before", got, first)
	}

	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, err := c.Release(ctx, refs); return err },
		func() bool { return grant() == nil })
	again(ctx, t, func() error {
		out, err := c.Release(ctx, refs)
		if err == nil && !errors.Is(out[0].Err, lease.ErrNotHeld) {
			t.Errorf("the repeat of a release: %+v", out)
		}
		return err
	})
	if g, _, err = other.Acquire(ctx, &driver.Request{Name: r.Name, Holder: "next", TTL: time.Minute}); err != nil || g.Token <= first {
		t.Errorf("the next: %+v, %v", g, err)
	}
}

// TestLateGrant: an acquire that reaches the server after its Cancel gets
// nothing: the lease that its grant would hang on is gone.
func TestLateGrant(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedEtcd(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, quick(p.Addr())), drivertest.OpenConn(t, quick(addr))
	late := c.(*conn)
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "late", ID: "1", TTL: time.Minute}
	warm(ctx, t, c, r.TTL)
	p.Swallow(drivertest.ToServer)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	if _, _, err := c.Acquire(short, r); !errors.Is(err, lease.ErrUnknown) {
		t.Fatalf("acquire in the dark: %v", err)
	}
	cancel()
	in := late.doubts.take(claimOf(r))
	if in == nil || len(in.leases) != 1 {
		t.Fatalf("in doubt: %+v; want the lease of the attempt", in)
	}
	// The Cancel takes another way, as over a new connection.
	if left := other.(*conn).leases.revokeAll(ctx, in.leases); len(left) > 0 {
		t.Fatal("the lease could not be revoked")
	}
	p.Heal()
	again(ctx, t, func() error { _, err := c.List(ctx, &driver.ListRequest{Name: "n"}); return err })
	if infos, err := other.List(ctx, &driver.ListRequest{Name: r.Name}); err != nil || len(infos) != 0 {
		t.Errorf("the late request left %+v, %v", infos, err)
	}
	if g, _, err := c.Acquire(ctx, r); err != nil || g == nil {
		t.Errorf("a new attempt after the Cancel: %v, %v", g, err)
	}
}

// TestLatePlace: a place that is taken after the Cancel of its request is
// removed, though the client lives and keeps its session.
func TestLatePlace(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedEtcd(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, quick(p.Addr())), drivertest.OpenConn(t, quick(addr))
	late, name := c.(*conn), drivertest.Fresh(t)
	if _, _, err := other.Acquire(ctx, &driver.Request{Name: name, Holder: "holder", TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	r := &driver.Request{Name: name, Holder: "late", ID: "1", TTL: time.Minute, Queue: true}
	a := &acquiring{c: late, r: r, claim: claimOf(r), began: late.clock.Now(), bases: []string{late.base(name)}}
	s, err := a.seeNow(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.session.lease(ctx); err != nil {
		t.Fatal(err)
	}
	p.Swallow(drivertest.ToClient) // it arrives at once, which is as good as late
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	if _, _, err := a.join(short, s); !errors.Is(err, lease.ErrUnknown) {
		t.Fatalf("a place in the dark: %v", err)
	}
	cancel()
	short, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	if err := c.Cancel(short, r); err == nil {
		t.Error("a Cancel in the dark succeeded")
	}
	cancel()
	waits := func(n int) func() bool {
		return func() bool {
			infos, err := other.List(ctx, &driver.ListRequest{Name: name})
			return err == nil && len(infos) == 1 && infos[0].Waiting == n
		}
	}
	drivertest.Until(ctx, t, "the place is there", waits(1))
	p.Cut()
	p.Heal()
	drivertest.Until(ctx, t, "the place is removed", waits(0))
}

// TestLostWatch: a waiter whose connections are cut is granted all the same.
func TestLostWatch(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedEtcd(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx, name := drivertest.Bounded(t), drivertest.Fresh(t)
	a, b := drivertest.OpenLocker(t, quick(addr)), drivertest.OpenLocker(t, quick(p.Addr()))
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
	p.Cut()
	released := time.Now()
	if err := held.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if took := (<-granted).Sub(released); took > checkPeriod+time.Second {
		t.Errorf("granted after %v; a waiter looks every %v", took, checkPeriod)
	}
}

// TestPlaceOutlivesItsSession: a waiter that was cut off for longer than its
// session has its place again when it returns.
func TestPlaceOutlivesItsSession(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedEtcd(t).Addr()
	p := drivertest.NewProxy(t, addr)
	ctx, name := drivertest.Bounded(t), drivertest.Fresh(t)
	near, far := drivertest.OpenLocker(t, quick(addr)), drivertest.OpenLocker(t, quick(p.Addr()))
	held, err := near.Acquire(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan string, 2)
	wait := func(who string, l *lock.Locker, n int) {
		go func() {
			le, err := l.Acquire(ctx, name, nil)
			if err != nil {
				t.Error(err)
				return
			}
			granted <- who
			if err := le.Release(ctx); err != nil {
				t.Error(err)
			}
		}()
		drivertest.Waiting(ctx, t, near, name, n)
	}
	wait("first", far, 1)
	wait("second", near, 2)
	p.Swallow(drivertest.ToServer, drivertest.ToClient)
	drivertest.Waiting(ctx, t, near, name, 1) // it is out of the line
	p.Cut()
	p.Heal()
	drivertest.Waiting(ctx, t, near, name, 2) // and back
	if err := held.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if a, b := <-granted, <-granted; a != "first" || b != "second" {
		t.Errorf("the %s was granted before the %s", a, b)
	}
}

// TestServerRestart kills the only server, and starts it on what it has stored.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := realserver.StartEtcd(t)
	drivertest.Failover{URL: quick(s.Addr()), Name: "restart", TTL: MinTTL, Kill: func() { s.Restart(t) }}.Run(t)
}

// TestLeaderKilled kills the leader of three: the waiters go on by themselves,
// no token goes back, and a lease that was held is still held.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := realserver.StartEtcdCluster(t)
	url := quick(c.Addrs()...)
	ctx := drivertest.Bounded(t)
	l := drivertest.OpenLocker(t, url)
	held, err := l.Acquire(ctx, "held over it", &lock.Options{TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Failover{URL: url, Name: "leader", TTL: MinTTL, Kill: func() { c.Leader(t).Kill(t) }}.Run(t)
	if err := held.Check(); err != nil {
		t.Errorf("the lease that was held over the failover: %v", err)
	}
	if err := held.Release(ctx); err != nil {
		t.Errorf("its release: %v", err)
	}
}

// lasting returns a context for tests that do a lot.
func lasting(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestTokenBase: tokens are above the base, and are taken back as such.
func TestTokenBase(t *testing.T) {
	t.Parallel()
	ctx := drivertest.Bounded(t)
	base := fmt.Sprint(uint64(MaxTokenBase))
	c := drivertest.OpenConn(t, "etcd://"+realserver.SharedEtcd(t).Addr()+"/based?token_base="+base)
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "h", TTL: time.Minute}
	g, _, err := c.Acquire(ctx, r)
	if err != nil || g.Token <= MaxTokenBase {
		t.Fatalf("%+v, %v", g, err)
	}
	refs := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
	if out, err := c.Renew(ctx, refs); err != nil || out[0].Err != nil {
		t.Errorf("Renew: %v, %v", out, err)
	}
	bare := []driver.Ref{refs[0]}
	bare[0].Token -= MaxTokenBase
	if out, err := c.Release(ctx, bare); err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("Release without the base: %v, %v", out, err)
	}
	if out, err := c.Release(ctx, refs); err != nil || out[0].Err != nil {
		t.Errorf("Release: %v, %v", out, err)
	}
}

// TestLockDelayOutlastsLateCalls: while the lock-delay of a lease that ran out
// keeps a name closed, its former holder can neither renew nor release it.
func TestLockDelayOutlastsLateCalls(t *testing.T) {
	t.Parallel()
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, quick(realserver.SharedEtcd(t).Addr()))
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "h", TTL: MinTTL, LockDelay: 20 * time.Second}
	g, _, err := c.Acquire(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Until(ctx, t, "the lease runs out", func() bool {
		infos, err := c.List(ctx, &driver.ListRequest{Name: r.Name})
		return err == nil && len(infos) == 1 && len(infos[0].Grants) == 0 && infos[0].ClosedFor > 0
	})
	refs := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
	if out, err := c.Renew(ctx, refs); err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("Renew: %v, %v", out, err)
	}
	if out, err := c.Release(ctx, refs); err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("Release: %v, %v", out, err)
	}
	if _, _, err := c.Acquire(ctx, &driver.Request{Name: r.Name, Holder: "next", TTL: time.Minute}); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("a try at the closed name: %v", err)
	}
}

// TestWatchOverCompaction: a watch that was cut off while etcd forgot what had
// happened since tells the state as it is.
func TestWatchOverCompaction(t *testing.T) {
	t.Parallel()
	s := realserver.StartEtcd(t)
	p := drivertest.NewProxy(t, s.Addr())
	ctx := drivertest.Bounded(t)
	watching, c := drivertest.OpenConn(t, quick(p.Addr())), drivertest.OpenConn(t, quick(s.Addr()))
	w, err := watching.Watch(ctx, &driver.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	told := map[string]driver.EventKind{}
	until := func(name string, kind driver.EventKind) {
		t.Helper()
		for told[name] != kind {
			events, err := w.Next(ctx)
			if err != nil && !errors.Is(err, lease.ErrUnavailable) { // begun again
				t.Fatal(err)
			}
			for _, e := range events {
				told[e.Info.Name] = e.Kind
			}
		}
	}
	before := &driver.Request{Name: "before", Holder: "h", TTL: time.Minute}
	if _, _, err := c.Acquire(ctx, before); err != nil {
		t.Fatal(err)
	}
	until("before", driver.EventState)
	p.Swallow(drivertest.ToServer, drivertest.ToClient)
	if err := c.Cancel(ctx, before); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Acquire(ctx, &driver.Request{Name: "meanwhile", Holder: "h", TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	client := c.(*conn).client
	now, err := client.Get(ctx, "any")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	p.Heal()
	until("before", driver.EventGone)
	until("meanwhile", driver.EventState)
}
