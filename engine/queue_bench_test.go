package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const benchBody = 256 // bytes

// benchQueue opens an engine on a directory of its own, with one queue.
func benchQueue(b *testing.B) queuedriver.Conn {
	b.Helper()
	e, err := Open(context.Background(), "file://"+b.TempDir()+"/data", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	q := e.Queues()
	if _, err := q.Declare(context.Background(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		b.Fatal(err)
	}
	return q
}

func benchBatch(n int) []queuedriver.Publishing {
	ps := make([]queuedriver.Publishing, n)
	for i := range ps {
		ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: "q"}, Mandatory: true, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, benchBody)}}
	}
	return ps
}

func perSecond(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkPublishSync: each goroutine publishes one message and waits until it
// is synced.
func BenchmarkPublishSync(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			q := benchQueue(b)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					ps := benchBatch(1)
					for i := g; i < b.N; i += goroutines {
						if rs, err := q.Publish(context.Background(), ps); err != nil || rs[0].Err != nil {
							b.Error(err, rs)
							return
						}
					}
				})
			}
			wg.Wait()
			perSecond(b, b.N)
		})
	}
}

// BenchmarkPublishBatch: batches of 500 from 4 goroutines, synced.
func BenchmarkPublishBatch(b *testing.B) {
	q := benchQueue(b)
	const batch, goroutines = 500, 4
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			ps := benchBatch(batch)
			for i := g * batch; i < b.N; i += goroutines * batch {
				if _, err := q.Publish(context.Background(), ps); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	perSecond(b, b.N)
}

// BenchmarkPublishConsumeAck: two publish in batches of 500 while two receive
// and ack; everything synced.
func BenchmarkPublishConsumeAck(b *testing.B) {
	q := benchQueue(b)
	const batch, pairs = 500, 2
	b.ReportAllocs()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	acked := make(chan int, 1000)
	var wg sync.WaitGroup
	for p := range pairs {
		wg.Go(func() {
			ps := benchBatch(batch)
			for i := p * batch; i < b.N; i += pairs * batch {
				if _, err := q.Publish(ctx, ps); err != nil {
					b.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				ds, err := q.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "q", Consumer: fmt.Sprint(p), Max: batch, Wait: time.Minute})
				if err != nil {
					return // the end
				}
				ss := make([]queuedriver.Settlement, len(ds))
				for i := range ds {
					ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Ack}
				}
				if _, err := q.Settle(context.Background(), ss); err != nil {
					b.Error(err)
					return
				}
				acked <- len(ds)
			}
		})
	}
	want := (b.N + batch - 1) / batch * batch
	for n := 0; n < want; {
		n += <-acked
	}
	b.StopTimer()
	cancel()
	wg.Wait()
	perSecond(b, want)
}
