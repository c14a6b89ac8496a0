package etcd

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

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

// fewWaiters are enough where TestThousandWaiters has them all.
const fewWaiters = 300

// patient outlasts a stall of a loaded machine: the suite repeats no call that
// failed on the way.
const patient = "?timeout=10s&session=2s"

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
	t.Parallel()         // it mostly waits for leases to run out
	var proxies sync.Map // driver.Conn -> *drivertest.Proxy
	s := realserver.StartEtcd(t)
	locktest.Run(t, locktest.Harness{
		Open: func(t testing.TB) driver.Conn {
			p := drivertest.NewProxy(t, s.Addr())
			c := openURL(t, "etcd://"+p.Addr()+patient)
			proxies.Store(c, p)
			return c
		},
		Waiters: fewWaiters,
		Restart: func(t testing.TB) { s.Restart(t) },
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
	})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := realserver.StartEtcdCluster(t)
	locktest.Run(t, locktest.Harness{
		Open:    func(t testing.TB) driver.Conn { return openURL(t, "etcd://"+strings.Join(c.Addrs(), ",")+patient) },
		Restart: func(t testing.TB) { c.Restart(t) },
		Waiters: fewWaiters,
	})
}
