package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// The settings of all benchmarks: messages of 256 bytes, 4 partitions, all
// in-sync replicas of one broker, an idempotent producer, 2,048 unconfirmed at
// most, no compression.
const (
	benchBody     = 256
	benchWindow   = 2048
	benchPrefetch = 4096
)

var benchQueue atomic.Int64

func newBenchQueue(b *testing.B, c driver.Conn) string {
	b.Helper()
	q := fmt.Sprint("bench", benchQueue.Add(1))
	if _, err := c.Declare(b.Context(), &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Delete(context.Background(), &driver.DeleteRequest{Queue: q}) })
	return q
}

// rawClient is the client alone, used well.
func rawClient(b *testing.B, addr string, more ...kgo.Opt) *kgo.Client {
	b.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(benchWindow), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
	}, more...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

func rawPublish(b *testing.B, cl *kgo.Client, topic string, n int) {
	b.Helper()
	body := make([]byte, benchBody)
	var failed atomic.Pointer[error]
	for range n {
		cl.Produce(b.Context(), &kgo.Record{Topic: topic, Value: body}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// rawConsume commits what was read by itself, as the client does by default.
func rawConsume(b *testing.B, cl *kgo.Client, n int) {
	b.Helper()
	for n > 0 {
		fetches := cl.PollFetches(b.Context())
		if err := fetches.Err(); err != nil {
			b.Fatal(err)
		}
		n -= fetches.NumRecords()
	}
}

func ourPublish(b *testing.B, br *queue.Broker, q string, n int) {
	b.Helper()
	p := br.Publisher(&queue.PublisherOptions{Window: benchWindow})
	body := make([]byte, benchBody)
	for range n {
		if _, err := p.Send(b.Context(), queue.Route{Key: q}, &queue.Message{Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// ourConsume consumes until the benchmark ends. await returns when that many more
// messages were handled.
func ourConsume(b *testing.B, br *queue.Broker, q string) (await func(n int)) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	handled, done := make(chan struct{}, 1), make(chan error, 1)
	var left atomic.Int64
	go func() {
		done <- br.Serve(ctx, q, func(context.Context, *queue.Delivery) error {
			if left.Add(-1) == 0 {
				handled <- struct{}{}
			}
			return nil
		}, &queue.ServeOptions{Concurrency: 64, Prefetch: benchPrefetch})
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	})
	return func(n int) {
		if left.Add(int64(n)) == 0 {
			return
		}
		select {
		case <-handled:
		case err := <-done:
			b.Error(err)
			done <- err
		}
	}
}

// benchWarm is how many messages go first: what connecting, joining a group and
// knowing a new topic take is no part of a rate.
const benchWarm = 2000

func BenchmarkPublish(b *testing.B) {
	addr := realserver.SharedKafka(b).Addr()
	c := openURL(b, "kafka://"+addr)
	br := queue.New(c, nil)
	b.Cleanup(func() { br.Close() })
	b.Run("raw", func(b *testing.B) {
		q, cl := newBenchQueue(b, c), rawClient(b, addr)
		rawPublish(b, cl, queueTopic(q), benchWarm)
		b.ResetTimer()
		rawPublish(b, cl, queueTopic(q), b.N)
	})
	b.Run("driver", func(b *testing.B) {
		q := newBenchQueue(b, c)
		ourPublish(b, br, q, benchWarm)
		b.ResetTimer()
		ourPublish(b, br, q, b.N)
	})
}

func BenchmarkPublishAndConsume(b *testing.B) {
	addr := realserver.SharedKafka(b).Addr()
	c := openURL(b, "kafka://"+addr)
	br := queue.New(c, nil)
	b.Cleanup(func() { br.Close() })
	both := func(publish, consume func(n int), n int) {
		var wg sync.WaitGroup
		wg.Go(func() { publish(n) })
		consume(n)
		wg.Wait()
	}
	run := func(b *testing.B, publish, consume func(n int)) {
		b.Helper()
		both(publish, consume, benchWarm)
		b.ResetTimer()
		both(publish, consume, b.N)
		b.StopTimer()
	}
	b.Run("raw", func(b *testing.B) {
		q := newBenchQueue(b, c)
		out := rawClient(b, addr)
		in := rawClient(b, addr, kgo.ConsumerGroup("raw "+q), kgo.ConsumeTopics(queueTopic(q)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		run(b, func(n int) { rawPublish(b, out, queueTopic(q), n) }, func(n int) { rawConsume(b, in, n) })
	})
	b.Run("driver", func(b *testing.B) {
		q := newBenchQueue(b, c)
		run(b, func(n int) { ourPublish(b, br, q, n) }, ourConsume(b, br, q))
	})
}
