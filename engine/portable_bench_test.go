package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// portableStores runs a benchmark of the portable queues in memory, and synced
// to disk.
func portableStores(b *testing.B, run func(b *testing.B, q *queue.Broker)) {
	b.Helper()
	for _, store := range []string{"mem", "file"} {
		b.Run(store, func(b *testing.B) {
			url := "mem://"
			if store == "file" {
				url = "file://" + b.TempDir() + "/data"
			}
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
			b.ReportAllocs()
			b.ResetTimer()
			run(b, q)
			perSecond(b, b.N)
		})
	}
}

// portableSend pipelines n messages through a Publisher and waits for each
// receipt.
func portableSend(b *testing.B, q *queue.Broker, n int) {
	b.Helper()
	p := q.Publisher(nil)
	flight := make(chan *queue.Pending, queue.DefaultWindow)
	var receipts sync.WaitGroup
	receipts.Go(func() {
		for pending := range flight {
			if _, err := pending.Receipt(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
	body := make([]byte, benchBody)
	for range n {
		pending, err := p.Send(context.Background(), queue.Route{Key: "q"}, &queue.Message{Body: body})
		if err != nil {
			b.Error(err)
			break
		}
		flight <- pending
	}
	close(flight)
	receipts.Wait()
	if err := p.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkPortablePublisher pipelines messages of 256 bytes by two Publishers.
func BenchmarkPortablePublisher(b *testing.B) {
	portableStores(b, func(b *testing.B, q *queue.Broker) {
		b.Helper()
		const publishers = 2
		var all sync.WaitGroup
		for w := range publishers {
			all.Go(func() { portableSend(b, q, (b.N+w)/publishers) })
		}
		all.Wait()
	})
}

// BenchmarkPortableServe sends messages of 256 bytes through a queue: a
// Publisher on one side, Serve on the other.
func BenchmarkPortableServe(b *testing.B) {
	portableStores(b, func(b *testing.B, q *queue.Broker) {
		b.Helper()
		var publisher sync.WaitGroup
		publisher.Go(func() { portableSend(b, q, b.N) })
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
		if err != nil {
			b.Error(err)
		}
		publisher.Wait()
	})
}
