package zookeeper

import (
	"errors"
	"net"
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

// TestWrongServer: what cannot work is a clear error, in bounded time.
func TestWrongServer(t *testing.T) {
	t.Parallel()
	web := answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	mute := answering(t, "")
	addr := realserver.SharedZooKeeper(t).Addr()
	mine := "zk://me:secret@" + addr + "/guarded" + suiteQuery
	drivertest.OpenConn(t, mine)
	drivertest.Refused(t, lock.OpenConn, 5*time.Second, []drivertest.Wrong{
		{URL: "zk://" + web + "?timeout=2s", Want: lease.ErrUnavailable, Says: "not a ZooKeeper"},
		{URL: "zk://" + mute + "?timeout=500ms", Want: lease.ErrUnavailable, Says: "gives no answer"},
		{URL: "zk://127.0.0.1:1?timeout=500ms", Want: lease.ErrUnavailable, Says: "refused"},
		{URL: strings.Replace(mine, "secret", "wrong", 1), Want: lease.ErrDenied, Says: "not authenticated"},
		{URL: "zk://" + addr + "/guarded/below" + suiteQuery, Want: lease.ErrDenied, Says: "not authenticated"},
		{URL: "zk://" + addr + "?acl=creator", Want: lease.ErrDenied, Says: "invalid ACL"},
		{URL: "zk://" + addr + "?session=2s&tick=2s", Want: lease.ErrInvalid, Says: "session"},
		{URL: "zk://" + addr + "?unknown=1", Want: lease.ErrInvalid, Says: "unknown"},
	}...)
}

// answering returns the address of a server that says something to everybody.
func answering(t testing.TB, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			_, _ = conn.Write([]byte(text)) // whoever has gone does not read it
		}
	}()
	return ln.Addr().String()
}

// TestDenied: who may not write is refused, and nothing is left.
func TestDenied(t *testing.T) {
	addr := realserver.SharedZooKeeper(t).Addr()
	ctx := drivertest.Bounded(t)
	owner := drivertest.OpenConn(t, "zk://me:secret@"+addr+"/denied"+suiteQuery)
	r := &driver.Request{Name: "n", Holder: "h", TTL: time.Minute, Queue: true}
	if _, _, err := owner.Acquire(ctx, r); err != nil {
		t.Fatal(err)
	}
	other, err := lock.OpenConn(ctx, "zk://you:other@"+addr+"/denied"+suiteQuery)
	if err == nil {
		defer other.Close()
		r := *r
		r.Holder = "other"
		_, _, err = other.Acquire(ctx, &r)
	}
	if !errors.Is(err, lease.ErrDenied) {
		t.Errorf("Acquire by another user: %v; want %v", err, lease.ErrDenied)
	}
	infos, err := owner.List(ctx, &driver.ListRequest{Name: "n"})
	if err != nil || len(infos) != 1 || infos[0].Waiting != 0 {
		t.Errorf("List: %+v, %v", infos, err)
	}
}

// TestOwnClient: New works over a client of the caller's, which Close leaves
// open; what was held through it ends.
func TestOwnClient(t *testing.T) {
	client, _, err := zk.Connect([]string{realserver.SharedZooKeeper(t).Addr()}, suiteSession, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := drivertest.Bounded(t)
	if _, err := New(ctx, client, nil); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("New without a session: %v", err)
	}
	o := &Options{Root: "/own/locks", Session: suiteSession, Tick: realserver.ZooKeeperTick, TokenBase: MaxTokenBase}
	c, err := New(ctx, client, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &driver.Request{Name: "n", Holder: "h", TTL: time.Minute}
	if g, _, err := c.Acquire(ctx, r); err != nil || g.Token <= MaxTokenBase {
		t.Errorf("Acquire: %+v, %v; want a token above its base", g, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if children, _, err := client.Children("/own/locks/" + shardOf("n") + "/n"); err != nil || len(children) != 0 {
		t.Errorf("left after Close: %v, %v", children, err)
	}
}

// TestTwoSessions: a lease moves to the session that renews it, with its token,
// and outlives the one that it was made in.
func TestTwoSessions(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedZooKeeper(t).Addr()
	ctx, name := drivertest.Bounded(t), drivertest.Fresh(t)
	first := openURL(t, urlOf(addr))
	r := &driver.Request{Name: name, Holder: "h", ID: "1", TTL: time.Minute}
	g, _, err := first.Acquire(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	second := drivertest.OpenConn(t, urlOf(addr))
	refs := []driver.Ref{{Name: name, Holder: "h", Token: g.Token, TTL: time.Minute}}
	if err := first.Close(); err != nil { // its lease is left to expire
		t.Fatal(err)
	}
	if out, err := second.Renew(ctx, refs); err != nil || out[0].Err != nil {
		t.Fatalf("Renew over another connection: %v, %v", out, err)
	}
	timer := time.NewTimer(suiteSession + 2*realserver.ZooKeeperTick) // the first session is over by then
	defer timer.Stop()
	<-timer.C
	if out, err := second.Renew(ctx, refs); err != nil || out[0].Err != nil {
		t.Errorf("Renew after the first session's end: %v, %v", out, err)
	}
	infos, err := second.List(ctx, &driver.ListRequest{Name: name})
	if err != nil || len(infos) != 1 || infos[0].Grants[0].Token != g.Token {
		t.Errorf("List: %+v, %v; want token %d", infos, err, g.Token)
	}
}

// TestMostClaims has the bound at its edge, and one past it.
func TestMostClaims(t *testing.T) {
	ctx, name := drivertest.Bounded(t), drivertest.Fresh(t)
	c := drivertest.OpenConn(t, urlOf(realserver.SharedZooKeeper(t).Addr()))
	c.(*conn).most = 3
	for i := range 4 {
		_, _, err := c.Acquire(ctx, &driver.Request{Name: name, Holder: string(rune('a' + i)), TTL: time.Minute, Queue: true})
		if i < 3 && err != nil || i == 3 && !errors.Is(err, lease.ErrLimit) {
			t.Errorf("claim %d: %v", i+1, err)
		}
	}
	if infos, err := c.List(ctx, &driver.ListRequest{Name: name}); err != nil || len(infos) != 1 || infos[0].Waiting != 2 {
		t.Errorf("List: %+v, %v; want two waiters", infos, err)
	}
}
