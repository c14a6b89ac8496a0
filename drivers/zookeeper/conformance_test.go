package zookeeper

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestMain(m *testing.M) {
	if drivertest.PlayRole() {
		return
	}
	os.Exit(realserver.Run(m))
}

// suiteSession outlasts a stall of a loaded machine, and a restart of a server.
const (
	suiteSession = 8 * time.Second
	suiteQuery   = "?session=8s&tick=500ms"
	suiteTTL     = time.Second
	suiteWaiters = 250 // TestThousandWaiters has more
)

func urlOf(addrs ...string) string { return scheme + "://" + strings.Join(addrs, ",") + suiteQuery }

func openURL(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := Open(context.Background(), url) // the suite opens one in a cleanup too
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSingle reaches the server through a proxy for each connection, so that
// one of them can be cut. The server is its own: the suite kills it.
func TestSingle(t *testing.T) {
	t.Parallel()
	var proxies sync.Map // driver.Conn -> *drivertest.Proxy
	s := realserver.StartZooKeeper(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn {
			p := drivertest.NewProxy(t, s.Addr())
			c := openURL(t, urlOf(p.Addr()))
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
		Restart:  func(t testing.TB) { s.Restart(t) },
		ShortTTL: suiteTTL,
		Waiters:  suiteWaiters,
	})
}

func TestEnsemble(t *testing.T) {
	t.Parallel()
	e := realserver.SharedZooKeeperEnsemble(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn { return openURL(t, urlOf(e.Addrs()...)) },
		Restart: func(tb testing.TB) {
			tb.Helper()
			leader, _ := e.Leader(tb)
			leader.Kill(tb)
			tb.Cleanup(func() { // tb's context has ended then
				leader.Start(t)
				e.AwaitAll(t)
			})
			e.Leader(tb) // of the others, who go on with all that was stored
		},
		ShortTTL: suiteTTL,
		Waiters:  suiteWaiters,
	})
}
