package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	goredis "github.com/redis/go-redis/v9"

	_ "github.com/lockkeeper/lockkeeper/drivers/redis"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock"
)

func TestMain(m *testing.M) { os.Exit(realserver.Run(m)) }

const ttl = 10 * time.Second

// locker acquires a name, and returns what releases it.
type locker func(ctx context.Context, name string) (release func(context.Context) error, err error)

func lockkeeperOn(t testing.TB, addr string) locker {
	t.Helper()
	l, err := lock.Open(t.Context(), "redis://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		le, err := l.Acquire(ctx, name, &lock.Options{TTL: ttl})
		if err != nil {
			return nil, err
		}
		return le.Release, nil
	}
}

// redsyncOn uses redsync as its documentation shows it, with a pool that has a
// connection for each goroutine, and tries without end.
func redsyncOn(t testing.TB, addr string, poolSize int) locker {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: addr, PoolSize: poolSize})
	t.Cleanup(func() { client.Close() })
	rs := redsync.New(redsyncpool.NewPool(client))
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		m := rs.NewMutex(name, redsync.WithExpiry(ttl), redsync.WithTries(1<<30))
		if err := m.LockContext(ctx); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			ok, err := m.UnlockContext(ctx)
			if err == nil && !ok {
				err = fmt.Errorf("%s was not held", name)
			}
			return err
		}, nil
	}
}

func redisLockers(t testing.TB, poolSize int) map[string]locker {
	t.Helper()
	addr := realserver.SharedRedis(t).Addr()
	return map[string]locker{"lockkeeper": lockkeeperOn(t, addr), "redsync": redsyncOn(t, addr, poolSize)}
}

// BenchmarkRedisUncontended has 64 goroutines acquire and release free names of
// their own.
func BenchmarkRedisUncontended(b *testing.B) {
	const goroutines = 64
	for name, acquire := range redisLockers(b, goroutines) {
		b.Run(name, func(b *testing.B) {
			work := make(chan int)
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					key := "free/" + strconv.Itoa(g)
					for range work {
						release, err := acquire(context.Background(), key)
						if err == nil {
							err = release(context.Background())
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			for b.Loop() {
				work <- 0
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
		})
	}
}

// BenchmarkRedisContended has 20 workers take turns at one name, each holding
// it for 1 ms, and reports how long they waited and how fair it was.
func BenchmarkRedisContended(b *testing.B) {
	const workers, hold, span = 20, time.Millisecond, 10 * time.Second
	for name, acquire := range redisLockers(b, workers) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				served, waits := contend(b, acquire, workers, hold, span)
				slices.Sort(waits)
				b.ReportMetric(float64(len(waits))/span.Seconds(), "cycles/s")
				b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
				b.ReportMetric(float64(slices.Min(served))/float64(slices.Max(served)), "least/most")
				b.Logf("served %d to %d times, p50 %v, p99 %v, longest wait %v",
					slices.Min(served), slices.Max(served), waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1])
			}
		})
	}
}

func contend(t testing.TB, acquire locker, workers int, hold, span time.Duration) (served []int, waits []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	served = make([]int, workers)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var own []time.Duration
			for {
				start := time.Now()
				release, err := acquire(ctx, "contended")
				if err != nil {
					break // the time is over
				}
				own = append(own, time.Since(start))
				time.Sleep(hold) // the work under the lock
				if err := release(context.Background()); err != nil {
					t.Error(err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			served[w] = len(own)
			waits = append(waits, own...)
		})
	}
	wg.Wait()
	return served, waits
}
