package zookeeper

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock"
)

// The settings of all benchmarks: so many goroutines of one client, each with a
// name of its own, on three servers.
const (
	benchWorkers = 64
	benchTTL     = 10 * time.Second
)

// cycles has so many workers acquire and release, each a name of its own.
func cycles(b *testing.B, workers int, cycle func(name string) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range workers {
		wg.Go(func() {
			name := fmt.Sprint("free-", w)
			for left.Add(-1) >= 0 {
				if err := cycle(name); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkCycles are uncontended locks of one client.
func BenchmarkCycles(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			l, err := lock.Open(b.Context(), urlOf(realserver.SharedZooKeeperEnsemble(b).Addrs()...))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = l.Close() })
			cycles(b, workers, func(name string) error {
				le, err := l.Acquire(b.Context(), name, &lock.Options{TTL: benchTTL})
				if err != nil {
					return err
				}
				return le.Release(b.Context())
			})
		})
	}
}

// BenchmarkCyclesOfGoZooKeeper are the same with the client's own lock.
func BenchmarkCyclesOfGoZooKeeper(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			client, _, err := zk.Connect(realserver.SharedZooKeeperEnsemble(b).Addrs(), benchTTL, zk.WithLogger(silent{}), zk.WithLogInfo(false))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(client.Close)
			cycles(b, workers, func(name string) error {
				l := zk.NewLock(client, "/go-zookeeper/"+strings.ReplaceAll(name, "/", "-"), zk.WorldACL(zk.PermAll))
				if err := l.Lock(); err != nil {
					return err
				}
				return l.Unlock()
			})
		})
	}
}
