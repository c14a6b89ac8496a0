package etcd

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestMain(m *testing.M) {
	os.Exit(realserver.Run(m))
}

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

func TestSingle(t *testing.T) {
	t.Parallel() // it mostly waits for leases to run out
	s := realserver.SharedEtcd(t)
	locktest.Run(t, locktest.Harness{
		Open:    func(t testing.TB) driver.Conn { return openURL(t, "etcd://"+s.Addr()+patient) },
		Restart: func(t testing.TB) { s.Restart(t) },
	})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := realserver.SharedEtcdCluster(t)
	locktest.Run(t, locktest.Harness{
		Open:    func(t testing.TB) driver.Conn { return openURL(t, "etcd://"+strings.Join(c.Addrs(), ",")+patient) },
		Restart: func(t testing.TB) { c.Restart(t) },
	})
}
