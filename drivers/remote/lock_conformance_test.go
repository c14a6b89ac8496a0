package remote

import (
	"context"
	"sync"
	"testing"
	"time"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

// lockHarness reaches a daemon through a proxy for each connection, so that
// one of them can be cut. query says how: "?session=on".
func lockHarness(d *daemon, query string) locktest.Harness {
	var holes sync.Map // lockdriver.Conn -> *hole
	return locktest.Harness{
		Open: func(t testing.TB) lockdriver.Conn {
			h := newHole(t, d.addr)
			c, err := openLocks(context.Background(), h.url()+query) // the suite opens one in a cleanup too
			if err != nil {
				t.Fatal(err)
			}
			holes.Store(c, h)
			return c
		},
		Cut: func(t testing.TB, c lockdriver.Conn, cut bool) {
			v, _ := holes.Load(c)
			h, ok := v.(*hole)
			switch {
			case !ok:
				t.Fatal("not a connection of this harness")
			case cut:
				h.swallow()
			default:
				h.heal()
			}
		},
		ShortTTL: 2 * time.Second, // renewals outlast a stall of the machine
	}
}

// ways are the two ways to a daemon: each keeps all promises.
var ways = []string{"session=on", "session=off"}

func TestLockConformance(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel() // it waits for most of its time
			locktest.Run(t, lockHarness(startOn(t, "mem://?min_ttl=50ms", nil), "?"+way))
		})
	}
}

func TestLockConformanceOnDisk(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d := startOn(t, "file://"+t.TempDir()+"?min_ttl=50ms", nil)
			h := lockHarness(d, "?"+way)
			h.Restart, h.Waiters = d.restart, 100
			locktest.Run(t, h)
		})
	}
}
