package remote

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/drivers/redis"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
	"github.com/lockkeeper/lockkeeper/server"
)

func TestMain(m *testing.M) { os.Exit(realserver.Run(m)) }

// A daemon keeps the promises of the backend that it serves, too.
func TestLockConformanceOnRedis(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			locks, err := redis.Open(context.Background(), "redis://"+realserver.SharedRedis(t).Addr()+"?timeout=10s&prefix="+way[len(way)-2:]+":")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // after the daemon's end
				if err := locks.Close(); err != nil {
					t.Error(err)
				}
			})
			h := lockHarness(startOn(t, "mem://", func(c *server.Config) { c.Locks = locks }), "?"+way)
			h.ShortTTL, h.Waiters = time.Second, 100
			locktest.Run(t, h)
		})
	}
}
