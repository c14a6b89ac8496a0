package migrate

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	_ "github.com/lockkeeper/lockkeeper/drivers/etcd"
	_ "github.com/lockkeeper/lockkeeper/drivers/redis"
	_ "github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestMain(m *testing.M) { os.Exit(realserver.Run(m)) }

func open(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := Open(context.Background(), url) // the suite opens one in a cleanup too
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mem returns the URL of an engine in memory that lasts as long as a
// connection to it is open.
func mem(t testing.TB, query string) string {
	t.Helper()
	return "mem://migrate-" + rand.Text() + "?min_ttl=50ms" + query
}

// keepOpen keeps the state of both of a URL over the connections of a test.
func keepOpen(t testing.TB, url string) string {
	t.Helper()
	c := open(t, url)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// lifted is above the microseconds of any clock, with which the tokens of
// engines and of Redis begin.
const lifted = "&token_base=9000000000000000"

// Holding a lock on two backends keeps the promises of one, whosever tokens
// are handed out.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from   func(t *testing.T) string
		tokens Tokens
		short  time.Duration
	}{
		"engine to engine, old": {func(t *testing.T) string { t.Helper(); return mem(t, "") }, TokensOld, 500 * time.Millisecond},
		"engine to engine, new": {func(t *testing.T) string { t.Helper(); return mem(t, "") }, TokensNew, 500 * time.Millisecond},
		"redis to engine, old": {func(t *testing.T) string {
			t.Helper()
			return "redis://" + realserver.SharedRedis(t).Addr() + "?timeout=10s"
		}, TokensOld, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for most of its time
			url := keepOpen(t, URL(tt.from(t), mem(t, lifted), tt.tokens))
			locktest.Run(t, locktest.Harness{
				Open:     func(t testing.TB) driver.Conn { t.Helper(); return open(t, url) },
				ShortTTL: tt.short, Waiters: 100,
			})
		})
	}
}
