package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// BenchmarkLockCycle measures acquire and release of uncontended names, each
// synced to the disk, by one goroutine and by 64.
func BenchmarkLockCycle(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			e := open(b, "file://"+b.TempDir(), nil)
			c := e.Locks()
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var workers sync.WaitGroup
			for w := range goroutines {
				workers.Go(func() {
					ctx := context.Background()
					r := request(fmt.Sprint("n", w), "h")
					for next.Add(1) <= int64(b.N) {
						g, _, err := c.Acquire(ctx, r)
						if err != nil {
							b.Error(err)
							return
						}
						if _, err := c.Release(ctx, []lockdriver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			workers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
			stats := e.core.store.Stats()
			b.ReportMetric(2*float64(b.N)/float64(stats.Rounds), "calls/round")
			b.ReportMetric(float64(stats.Rounds)/float64(stats.Syncs.Count), "rounds/sync")
			b.ReportMetric(float64(stats.Syncs.Total.Microseconds())/float64(stats.Syncs.Count), "us/sync")
		})
	}
}

// BenchmarkTurns has workers take turns at one name, which they hold for no
// time: how long a hand-over takes.
func BenchmarkTurns(b *testing.B) {
	for _, workers := range []int{20, 200} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			e := open(b, "file://"+b.TempDir(), nil)
			b.ResetTimer()
			takeTurns(b, e.Locks(), workers, b.N)
			stats := e.core.store.Stats()
			b.ReportMetric(float64(stats.Syncs.Count)/float64(b.N), "syncs/turn")
			b.ReportMetric(float64(stats.Syncs.Total.Microseconds())/float64(stats.Syncs.Count), "us/sync")
		})
	}
}
