package remote

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// benchStores are the stores behind the daemon: in memory, and synced to disk.
func benchStores(b *testing.B, run func(b *testing.B, url string)) {
	b.Helper()
	for _, store := range []string{"mem", "file"} {
		b.Run(store, func(b *testing.B) {
			target := "mem://"
			if store == "file" {
				target = "file://" + b.TempDir()
			}
			run(b, startOn(b, target, nil).url()+"?session=on")
		})
	}
}

// BenchmarkLockCycle acquires and releases, each goroutine a name of its own,
// all over one session.
func BenchmarkLockCycle(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			benchStores(b, func(b *testing.B, url string) {
				b.Helper()
				l := openLocker(b.Context(), b, url)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						name := fmt.Sprint("bench/", i)
						for left.Add(-1) >= 0 {
							le, err := l.Acquire(b.Context(), name, nil)
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
		})
	}
}

func benchQueue(b *testing.B, url string) *queue.Broker {
	b.Helper()
	q, err := queue.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := q.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := q.Declare(b.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: "q", Lease: time.Minute}}}); err != nil {
		b.Fatal(err)
	}
	return q
}

func benchSend(b *testing.B, q *queue.Broker, n int) {
	b.Helper()
	p := q.Publisher(&queue.PublisherOptions{Window: 8192, MaxBatch: 1000})
	body := make([]byte, 256)
	for range n {
		if _, err := p.Send(b.Context(), queue.Route{Key: "q"}, &queue.Message{Body: body}); err != nil {
			b.Error(err)
			return
		}
	}
	if err := p.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkPublish pipelines messages of 256 bytes.
func BenchmarkPublish(b *testing.B) {
	benchStores(b, func(b *testing.B, url string) {
		b.Helper()
		q := benchQueue(b, url)
		b.ReportAllocs()
		b.ResetTimer()
		benchSend(b, q, b.N)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
}

// BenchmarkPublishConsumeAck sends messages of 256 bytes through a queue, all
// over one session.
func BenchmarkPublishConsumeAck(b *testing.B) {
	benchStores(b, func(b *testing.B, url string) {
		b.Helper()
		q := benchQueue(b, url)
		b.ReportAllocs()
		b.ResetTimer()
		var wg sync.WaitGroup
		wg.Go(func() { benchSend(b, q, b.N) })
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		var left atomic.Int64
		left.Store(int64(b.N))
		err := q.Serve(ctx, "q", func(context.Context, *queue.Delivery) error {
			if left.Add(-1) == 0 {
				cancel()
			}
			return nil
		}, &queue.ServeOptions{Concurrency: 512})
		if err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
}
