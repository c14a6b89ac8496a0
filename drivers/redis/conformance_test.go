package redis

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestMain(m *testing.M) {
	if drivertest.PlayRole() {
		return
	}
	goredis.SetLogger(silent{}) // it reports each connection that a test kills
	os.Exit(realserver.Run(m))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// suiteTTL and patient outlast a stall of a loaded machine: the suite repeats
// no call that failed on the way.
const (
	suiteTTL = time.Second
	patient  = "?timeout=10s"
)

func openURL(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := Open(context.Background(), url) // the suite opens one in a cleanup too
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSingle reaches the server through a proxy for each connection, so that
// one of them can be cut.
func TestSingle(t *testing.T) {
	t.Parallel()
	var proxies sync.Map // driver.Conn -> *drivertest.Proxy
	s := realserver.SharedRedis(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn {
			p := drivertest.NewProxy(t, s.Addr())
			c := openURL(t, "redis://"+p.Addr()+patient)
			proxies.Store(c, p)
			return c
		},
		Cut: func(t testing.TB, c driver.Conn, cut bool) {
			v, _ := proxies.Load(c)
			p, ok := v.(*drivertest.Proxy)
			switch {
			case !ok:
				t.Fatal("not a connection of this harness")
			case cut:
				p.Swallow(drivertest.ToServer, drivertest.ToClient)
			default:
				p.Heal()
			}
		},
		ShortTTL: suiteTTL,
		Waiters:  fewWaiters,
	})
}

// fewWaiters are enough where TestThousandWaiters has them all.
const fewWaiters = 300

func TestCluster(t *testing.T) {
	t.Parallel()
	c := realserver.SharedRedisCluster(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn {
			return openURL(t, "redis+cluster://"+strings.Join(c.Addrs()[:3], ",")+patient)
		},
		Names:    func(name string) string { return "{" + name + "}" }, // several of them in one slot
		ShortTTL: suiteTTL,
		Waiters:  fewWaiters,
	})
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := realserver.SharedRedisSentinel(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn {
			return openURL(t, "redis+sentinel://"+strings.Join(s.Addrs(), ",")+"/"+realserver.SentinelName+"/0"+patient)
		},
		ShortTTL: suiteTTL,
		Waiters:  fewWaiters,
	})
}
