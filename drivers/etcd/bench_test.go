package etcd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock"
)

// The settings of all benchmarks: so many goroutines, each with a name of its
// own, and leases that nobody need renew meanwhile.
const (
	benchWorkers = 64
	benchTTL     = 10 * time.Second
)

// cycles has so many workers acquire and release, each a name of its own.
func cycles(b *testing.B, workers int, cycle func(worker int, name string) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range workers {
		wg.Go(func() {
			name := fmt.Sprint("free/", w)
			for left.Add(-1) >= 0 {
				if err := cycle(w, name); err != nil {
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
			s := realserver.SharedEtcd(b)
			l, err := lock.Open(b.Context(), "etcd://"+s.Addr())
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			before := transactions(b, s)
			cycles(b, workers, func(_ int, name string) error {
				le, err := l.Acquire(b.Context(), name, &lock.Options{TTL: benchTTL})
				if err != nil {
					return err
				}
				return le.Release(b.Context())
			})
			b.ReportMetric(float64(transactions(b, s)-before)/float64(b.N), "txns/op")
		})
	}
}

// BenchmarkCyclesOfConcurrency are the same with etcd's own library. A session
// of it stands for one client, so that there is one for each worker.
func BenchmarkCyclesOfConcurrency(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{realserver.SharedEtcd(b).Addr()}})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = client.Close() })
			sessions := make([]*concurrency.Session, workers)
			for i := range sessions {
				if sessions[i], err = concurrency.NewSession(client, concurrency.WithTTL(int(benchTTL.Seconds()))); err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = sessions[i].Close() })
			}
			cycles(b, workers, func(worker int, name string) error {
				m := concurrency.NewMutex(sessions[worker], name)
				if err := m.Lock(context.Background()); err != nil {
					return err
				}
				return m.Unlock(context.Background())
			})
		})
	}
}
