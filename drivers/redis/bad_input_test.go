package redis

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestWrongServer: what cannot work is a clear error, in bounded time.
func TestWrongServer(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	nobody := "127.0.0.1:1"
	guarded := realserver.StartRedis(t, "--requirepass", "secret")
	set := realserver.SharedRedisSentinel(t)
	replica := set.Servers[0].Addr()
	if set.Primary(t).Addr() == replica {
		replica = set.Servers[1].Addr()
	}
	node := realserver.SharedRedisCluster(t).Nodes[0].Addr()
	single := realserver.SharedRedis(t).Addr()
	drivertest.Refused(t, lock.OpenConn, 7*time.Second, []drivertest.Wrong{
		{URL: "redis://" + web.Listener.Addr().String(), Want: lease.ErrUnavailable, Says: "not a Redis"},
		{URL: "redis://" + mute.Addr().String() + "?timeout=200ms", Want: lease.ErrUnavailable, Says: "timeout"},
		{URL: "redis://" + nobody, Want: lease.ErrUnavailable, Says: "refused"},
		{URL: "redis://" + guarded.Addr(), Want: lease.ErrDenied, Says: "NOAUTH"},
		{URL: "redis://:wrong@" + guarded.Addr(), Want: lease.ErrDenied, Says: "WRONGPASS"},
		{URL: "redis://" + replica, Want: lease.ErrUnavailable, Says: "read-only replica"},
		{URL: "redis://" + node, Want: lease.ErrInvalid, Says: "redis+cluster://"},
		{URL: "redis+cluster://" + single, Want: lease.ErrInvalid, Says: "must begin with redis://"},
		{URL: "redis+cluster://" + nobody, Want: lease.ErrUnavailable, Says: "refused"},
		{URL: "redis+sentinel://" + nobody + "/main", Want: lease.ErrUnavailable},
		{URL: "redis+sentinel://" + set.Addrs()[0] + "/other", Want: lease.ErrUnavailable, Says: `"other"`},
		{URL: "redis://" + single + "/999", Want: lease.ErrInvalid, Says: "database"},
		{URL: "rediss://" + single + "?timeout=500ms", Want: lease.ErrUnavailable},
		{URL: "unix:///does/not/exist", Want: lease.ErrUnavailable, Says: "no such file"},
		{URL: "redis://" + single + "?unknown=1", Want: lease.ErrInvalid, Says: "unknown"},
	}...)
	drivertest.OpenConn(t, "redis://:secret@"+guarded.Addr())
}

// TestOtherClients: what New does not know it refuses.
func TestOtherClients(t *testing.T) {
	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	if _, err := New(context.Background(), ring, nil); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("a Ring: %v", err)
	}
}

// TestOwnClient: New works over a client of the caller's, which Close leaves
// open.
func TestOwnClient(t *testing.T) {
	client := goredis.NewClient(&goredis.Options{Addr: realserver.SharedRedis(t).Addr()})
	defer client.Close()
	ctx := drivertest.Bounded(t)
	c, err := New(ctx, client, &Options{Prefix: "own:"})
	if err != nil {
		t.Fatal(err)
	}
	name := drivertest.Fresh(t)
	if _, _, err := c.Acquire(ctx, &driver.Request{Name: name, Holder: "h", TTL: time.Minute}); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n, err := client.Exists(ctx, keysOf("own:", name)[0]).Result(); err != nil || n != 1 {
		t.Errorf("the key under the prefix: %d, %v", n, err)
	}
}

// TestEvictionWarning: a server that may throw locks away is warned of.
func TestEvictionWarning(t *testing.T) {
	t.Parallel()
	for policy, warns := range map[string]bool{"noeviction": false, "allkeys-lru": true, "volatile-ttl": true} {
		s := realserver.StartRedis(t, "--maxmemory", "100mb", "--maxmemory-policy", policy)
		client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), MaxRetries: -1})
		var log bytes.Buffer
		c, err := New(drivertest.Bounded(t), client, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), policy); got != warns {
			t.Errorf("%s: the log says %q", policy, log.String())
		}
		c.Close()
		client.Close()
	}
}

// TestOutOfMemory: a server that is full refuses, and nothing is half done.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis://"+s.Addr())
	held := &driver.Request{Name: "held", Holder: "h", TTL: time.Minute}
	g, _, err := c.Acquire(ctx, held)
	if err != nil {
		t.Fatal(err)
	}
	mustRedis(ctx, t, s, "CONFIG", "SET", "maxmemory", "1")
	if _, _, err := c.Acquire(ctx, &driver.Request{Name: "new", Holder: "h", TTL: time.Minute}); !errors.Is(err, lease.ErrNoSpace) {
		t.Errorf("Acquire: %v; want %v", err, lease.ErrNoSpace)
	}
	mustRedis(ctx, t, s, "CONFIG", "SET", "maxmemory", "0")
	out, err := c.Release(ctx, []driver.Ref{{Name: "held", Holder: "h", Token: g.Token}})
	if err != nil || out[0].Err != nil {
		t.Errorf("Release: %v, %v", out, err)
	}
	if infos, err := c.List(ctx, &driver.ListRequest{}); err != nil || len(infos) != 0 {
		t.Errorf("left: %+v, %v", infos, err)
	}
}

// TestWaitReplicas: a grant that too few replicas have is taken back.
func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	set := realserver.StartRedisSentinel(t)
	ctx := drivertest.Bounded(t)
	url := "redis://" + set.Servers[0].Addr() + "?timeout=400ms&wait_replicas="
	one, two := drivertest.OpenConn(t, url+"1"), drivertest.OpenConn(t, url+"2")
	r := &driver.Request{Name: "replicated", Holder: "h", TTL: time.Minute}
	if _, _, err := two.Acquire(ctx, r); !errors.Is(err, lease.ErrUnavailable) || !strings.Contains(err.Error(), "1 of 2 replicas") {
		t.Errorf("a grant on one replica of two: %v", err)
	}
	if infos, err := one.List(ctx, &driver.ListRequest{Name: r.Name}); err != nil || len(infos) != 0 {
		t.Errorf("the grant is still there: %+v, %v", infos, err)
	}
	g, _, err := one.Acquire(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	ref := []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}}
	if out, err := one.Renew(ctx, ref); err != nil || out[0].Err != nil {
		t.Errorf("Renew: %v, %v", out, err)
	}
	set.Servers[1].Pause(t)
	defer set.Servers[1].Continue(t)
	if out, err := one.Renew(ctx, ref); err != nil || !errors.Is(out[0].Err, lease.ErrUnknown) {
		t.Errorf("Renew with a replica that hangs: %v, %v", out, err)
	}
	if out, err := one.Release(ctx, ref); err != nil || out[0].Err != nil {
		t.Errorf("Release: %v, %v", out, err)
	}
}

// TestNamesInDifferentSlots: a Cluster cannot grant them together, and says so.
func TestNamesInDifferentSlots(t *testing.T) {
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis+cluster://"+strings.Join(realserver.SharedRedisCluster(t).Addrs(), ","))
	name := drivertest.Fresh(t)
	for _, more := range []string{name + "b", name + "{a}"} {
		_, _, err := c.Acquire(ctx, &driver.Request{Name: name, More: []string{more}, Holder: "h", TTL: time.Minute})
		if !errors.Is(err, lease.ErrUnsupported) || !strings.Contains(err.Error(), "same tag") {
			t.Errorf("%q and %q: %v", name, more, err)
		}
	}
	if infos, err := c.List(ctx, &driver.ListRequest{Name: name}); err != nil || len(infos) != 0 {
		t.Errorf("left: %+v, %v", infos, err)
	}
}

// TestUnixSocket: a socket serves as an address.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.sock")
	realserver.StartRedis(t, "--unixsocket", path)
	ctx := drivertest.Bounded(t)
	l := drivertest.OpenLocker(t, "unix://"+path+"?db=3")
	le, err := l.Acquire(ctx, "n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := le.Release(ctx); err != nil {
		t.Error(err)
	}
}
