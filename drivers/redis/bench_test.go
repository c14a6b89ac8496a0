package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock"
)

// The settings of all benchmarks: leases that nobody need renew meanwhile, and
// how long a name that all want is held.
const (
	benchWorkers = 64
	benchTurns   = 20
	benchTTL     = 10 * time.Second
	benchHold    = time.Millisecond
)

func benchLocker(b *testing.B) *lock.Locker {
	b.Helper()
	l, err := lock.Open(b.Context(), "redis://"+realserver.SharedRedis(b).Addr())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// BenchmarkCycles are uncontended locks of one client.
func BenchmarkCycles(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			l := benchLocker(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range workers {
				wg.Go(func() {
					name := fmt.Sprint("free/", w)
					for left.Add(-1) >= 0 {
						le, err := l.Acquire(b.Context(), name, &lock.Options{TTL: benchTTL})
						if err == nil {
							err = le.Release(b.Context())
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
		})
	}
}

// BenchmarkTurns has workers of one client take turns at one name.
func BenchmarkTurns(b *testing.B) {
	l := benchLocker(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var mu sync.Mutex
	var waits []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for range benchTurns {
		wg.Go(func() {
			for {
				began := time.Now()
				le, err := l.Acquire(ctx, "contended", &lock.Options{TTL: benchTTL})
				if err != nil {
					return // all turns are over
				}
				mu.Lock()
				if waits = append(waits, time.Since(began)); len(waits) >= b.N {
					cancel()
				}
				mu.Unlock()
				time.Sleep(benchHold) //nolint:forbidigo // it stands for the work under the lock
				if err := le.Release(context.WithoutCancel(ctx)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(waits)
	b.ReportMetric(float64(len(waits))/b.Elapsed().Seconds(), "turns/s")
	b.ReportMetric(waits[len(waits)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(waits[len(waits)*99/100].Seconds()*1e3, "p99-ms")
}
