package zookeeper

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// setting reads how much a test is to do from the environment: the long forms
// take minutes.
func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, v, err)
	}
	return n
}

// quickQuery has sessions end soon.
const quickQuery = "?session=2s&tick=500ms"

// TestBlackHoleEndsHolderFirst cuts holders off that have a session each.
// LOCKKEEPER_BLACK_HOLES=100 is the long form.
func TestBlackHoleEndsHolderFirst(t *testing.T) {
	t.Parallel()
	const atOnce = 10
	addr := realserver.SharedZooKeeper(t).Addr()
	for left := setting(t, "LOCKKEEPER_BLACK_HOLES", atOnce); left > 0; left -= atOnce {
		drivertest.BlackHole{
			Addr: addr, URL: func(addr string) string { return urlOf(addr) },
			Holders: min(left, atOnce), Names: 1, TTL: 10 * time.Second,
		}.Run(t)
	}
}

func TestStoppedHolder(t *testing.T) {
	t.Parallel()
	drivertest.StoppedHolder(t, scheme+"://"+realserver.SharedZooKeeper(t).Addr()+quickQuery, time.Second)
}

func TestKilledHeadIsPassed(t *testing.T) {
	t.Parallel()
	drivertest.KilledHeadIsPassed(t, scheme+"://"+realserver.SharedZooKeeper(t).Addr()+quickQuery, time.Second)
}

// zxid returns the number of a server's last transaction.
func zxid(ctx context.Context, t testing.TB, s *realserver.Server) string {
	t.Helper()
	text, err := realserver.ZooKeeper(ctx, s.Addr(), "srvr")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "Zxid: ")
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

// keepContainer sees to it that a name has a container: otherwise the reply
// that is lost would be that it has none.
func keepContainer(t testing.TB, c driver.Conn, name string) {
	t.Helper()
	zc := c.(*conn)
	err := zc.makeContainers(name)
	if err == nil {
		_, err = zc.client.Create(zc.namePath(name)+"/kept", nil, zk.FlagEphemeral, zc.acl)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLostReplies: a repeat gets the same, and nothing is stuck.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	s := realserver.StartZooKeeper(t) // nobody else makes transactions
	p := drivertest.NewProxy(t, s.Addr())
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, urlOf(p.Addr())), drivertest.OpenConn(t, urlOf(s.Addr()))
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "holder", ID: "1", TTL: 30 * time.Second}
	keepContainer(t, other, r.Name)
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
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error {
		_, _, err := c.Acquire(ctx, &driver.Request{Name: r.Name, Holder: r.Holder, ID: r.ID, TTL: r.TTL, Queue: true})
		return err
	}, func() bool { return grant() != nil })
	first := grant().Token
	back := func() { // a call of before a reconnect would be unknown, too
		drivertest.Until(ctx, t, "there is a connection", func() bool {
			_, err := c.List(ctx, &driver.ListRequest{Name: r.Name})
			return err == nil
		})
	}
	back()
	g, _, err := c.Acquire(ctx, r)
	if err != nil || g == nil || g.Token != first {
		t.Fatalf("the repeat of an acquire: %+v, %v; want token %d", g, err, first)
	}
	ref := driver.Ref{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: time.Minute}
	before := zxid(ctx, t, s)
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, err := c.Renew(ctx, []driver.Ref{ref}); return err },
		func() bool { return zxid(ctx, t, s) != before })
	back()
	if out, err := c.Renew(ctx, []driver.Ref{ref}); err != nil || out[0].Err != nil {
		t.Errorf("the repeat of a renewal: %v, %v", out, err)
	}
	if got := grant().Token; got != first {
		t.Errorf("token %d after a renewal, %d before", got, first)
	}
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, err := c.Release(ctx, []driver.Ref{ref}); return err },
		func() bool { return grant() == nil })
	back()
	if out, err := c.Release(ctx, []driver.Ref{ref}); err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("the repeat of a release: %v, %v", out, err)
	}
	if g, _, err = other.Acquire(ctx, &driver.Request{Name: r.Name, Holder: "next", TTL: time.Minute}); err != nil || g.Token <= first {
		t.Errorf("the next: %+v, %v", g, err)
	}
}

// TestLostReplyAndCancel: a claim whose create was not answered is found by its
// id, and removed.
func TestLostReplyAndCancel(t *testing.T) {
	t.Parallel()
	s := realserver.SharedZooKeeper(t)
	p := drivertest.NewProxy(t, s.Addr())
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, urlOf(p.Addr())), drivertest.OpenConn(t, urlOf(s.Addr()))
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "holder", ID: "1", TTL: 30 * time.Second, Queue: true}
	keepContainer(t, other, r.Name)
	there := func() bool {
		infos, err := other.List(ctx, &driver.ListRequest{Name: r.Name})
		if err != nil {
			t.Fatal(err)
		}
		return len(infos) > 0
	}
	drivertest.Lose(ctx, t, p, c, func(ctx context.Context) error { _, _, err := c.Acquire(ctx, r); return err }, there)
	drivertest.Until(ctx, t, "the client is back", func() bool { return c.Cancel(ctx, r) == nil })
	if err := c.Cancel(ctx, r); err != nil { // it is idempotent
		t.Errorf("Cancel: %v", err)
	}
	if there() {
		t.Error("the claim is still there")
	}
}

// TestCutOffFollower cuts the server that the holder uses off from its leader.
// It goes on answering the holder's heartbeats all the while.
func TestCutOffFollower(t *testing.T) {
	t.Parallel()
	var links [3][3]*drivertest.Proxy // from one server to another
	e := realserver.StartZooKeeperEnsembleOver(t, func(from, to int, addr string) string {
		links[from][to] = drivertest.NewProxy(t, addr)
		return links[from][to].Addr()
	}, "syncLimit=16") // so long, in ticks, does the follower not know it
	leader, followers := e.Leader(t)
	ctx, clock := drivertest.Bounded(t), lease.SystemClock()
	name := drivertest.Fresh(t)
	held, err := drivertest.OpenLocker(t, urlOf(followers[0].Addr())).Acquire(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	rival := drivertest.OpenLocker(t, urlOf(leader.Addr()))
	type got struct {
		le *lock.Lease
		at lease.Instant
	}
	granted := make(chan got, 1)
	go func() {
		le, err := rival.Acquire(ctx, name, nil)
		if err != nil {
			t.Error(err)
		}
		granted <- got{le, clock.Now()}
	}()
	drivertest.Waiting(ctx, t, rival, name, 1)
	for i, s := range e.Servers {
		for j, to := range e.Servers {
			if s == followers[0] && to == leader {
				links[i][j].Swallow(drivertest.ToServer, drivertest.ToClient)
			}
		}
	}
	cut := clock.Now()
	<-held.Context().Done()
	ended := clock.Now()
	if cause := context.Cause(held.Context()); !errors.Is(cause, lease.ErrExpired) {
		t.Errorf("the lease ended because of %v", cause)
	}
	if mode, err := realserver.ZooKeeper(ctx, followers[0].Addr(), "ruok"); err != nil || mode != "imok" {
		t.Errorf("the follower says %q, %v: it was to go on", mode, err)
	}
	next := <-granted
	if next.le == nil {
		return
	}
	t.Logf("the holder ended %v after the cut, and %v before the rival was granted",
		ended.Sub(cut).Round(time.Millisecond), next.at.Sub(ended).Round(time.Millisecond))
	if next.at <= ended || next.le.Token() <= held.Token() {
		t.Errorf("a rival was granted %v before the holder's end, token %d after %d", ended.Sub(next.at), next.le.Token(), held.Token())
	}
	for _, from := range links {
		for _, p := range from {
			if p != nil {
				p.Heal()
			}
		}
	}
}

func TestLeaderKilled(t *testing.T) {
	e := realserver.SharedZooKeeperEnsemble(t)
	leader, _ := e.Leader(t)
	drivertest.Failover{
		URL: urlOf(e.Addrs()...), Name: drivertest.Fresh(t), TTL: 10 * time.Second, Kill: func() { leader.Kill(t) },
	}.Run(t)
	leader.Start(t)
	e.AwaitAll(t)
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := realserver.StartZooKeeper(t)
	drivertest.Failover{
		URL: urlOf(s.Addr()), Name: "restart", TTL: 10 * time.Second, Kill: func() { s.Restart(t) },
	}.Run(t)
}

// TestPlaceOutlivesAnOutage: a waiter that nobody asks for is given up after its
// session's time-out, which begins when its client has reached a server again.
func TestPlaceOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, scheme+"://"+realserver.SharedZooKeeper(t).Addr()+quickQuery).(*conn)
	r := &driver.Request{Name: drivertest.Fresh(t), Holder: "holder", TTL: time.Minute}
	if _, _, err := c.Acquire(ctx, r); err != nil {
		t.Fatal(err)
	}
	connected := func(at time.Time) {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.since = at
	}
	connected(time.Now().Add(time.Hour)) // later than anything here
	w := &driver.Request{Name: r.Name, Holder: "waiter", TTL: time.Minute, Queue: true}
	if _, ticket, err := c.Acquire(ctx, w); err != nil || ticket == nil {
		t.Fatal(ticket, err)
	}
	k := placeKey{w.Name, w.Holder}
	ends := func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.places[k] == nil {
			t.Fatal("the place is given up")
		}
		return c.places[k].until
	}
	drivertest.Until(ctx, t, "its time is longer", func() bool { return time.Until(ends()) > time.Minute })
	connected(time.Now().Add(-time.Hour))
	c.mu.Lock()
	p := c.places[k]
	c.mu.Unlock()
	c.last(p, 0)
	drivertest.Until(ctx, t, "the place is given up", func() bool {
		infos, err := c.List(ctx, &driver.ListRequest{Name: r.Name})
		return err == nil && len(infos) == 1 && infos[0].Waiting == 0
	})
}
