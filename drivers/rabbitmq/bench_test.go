package rabbitmq

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// The settings of all benchmarks: messages of 256 bytes, persistent, in one
// quorum queue, 2,048 unconfirmed at most, and a prefetch of 1,000.
const (
	benchBody     = 256
	benchWindow   = 2048
	benchPrefetch = 1000
)

var benchQueue atomic.Int64

func newBenchQueue(b *testing.B, c driver.Conn) string {
	b.Helper()
	q := fmt.Sprint("bench ", benchQueue.Add(1))
	if _, err := c.Declare(b.Context(), &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Delete(context.Background(), &driver.DeleteRequest{Queue: q}) })
	return q
}

// rawPublish publishes with the client alone, used well: one channel, one
// goroutine, confirmations in a window.
func rawPublish(b *testing.B, ch *amqp.Channel, q string, n int) {
	b.Helper()
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, benchWindow))
	body := make([]byte, benchBody)
	open := 0
	for range n {
		if open == benchWindow {
			<-confirms
			open--
		}
		if err := ch.Publish("", q, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}); err != nil {
			b.Fatal(err)
		}
		open++
	}
	for ; open > 0; open-- {
		<-confirms
	}
}

func rawConsume(b *testing.B, ch *amqp.Channel, q string, n int) {
	b.Helper()
	if err := ch.Qos(benchPrefetch, 0, false); err != nil {
		b.Fatal(err)
	}
	msgs, err := ch.Consume(q, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		if err := ch.Ack((<-msgs).DeliveryTag, false); err != nil {
			b.Fatal(err)
		}
	}
}

func rawChannel(b *testing.B, addr string) *amqp.Channel {
	b.Helper()
	conn, err := amqp.Dial("amqp://guest:guest@" + addr + "/")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
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

func ourConsume(b *testing.B, br *queue.Broker, q string, n int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(n))
	err := br.Serve(ctx, q, func(context.Context, *queue.Delivery) error {
		if left.Add(-1) == 0 {
			cancel()
		}
		return nil
	}, &queue.ServeOptions{Concurrency: 64, Prefetch: benchPrefetch})
	if left.Load() > 0 {
		b.Fatal(err)
	}
}

func BenchmarkPublish(b *testing.B) {
	addr := realserver.SharedRabbitMQ(b).Addr()
	c := openURL(b, "amqp://"+addr)
	br := queue.New(c, nil)
	b.Cleanup(func() { br.Close() })
	b.Run("raw", func(b *testing.B) {
		q, ch := newBenchQueue(b, c), rawChannel(b, addr)
		b.ResetTimer()
		rawPublish(b, ch, q, b.N)
	})
	b.Run("driver", func(b *testing.B) {
		q := newBenchQueue(b, c)
		b.ResetTimer()
		ourPublish(b, br, q, b.N)
	})
}

func BenchmarkPublishAndConsume(b *testing.B) {
	addr := realserver.SharedRabbitMQ(b).Addr()
	c := openURL(b, "amqp://"+addr)
	br := queue.New(c, nil)
	b.Cleanup(func() { br.Close() })
	both := func(publish, consume func()) {
		var wg sync.WaitGroup
		wg.Go(publish)
		consume()
		wg.Wait()
	}
	b.Run("raw", func(b *testing.B) {
		q, out, in := newBenchQueue(b, c), rawChannel(b, addr), rawChannel(b, addr)
		b.ResetTimer()
		both(func() { rawPublish(b, out, q, b.N) }, func() { rawConsume(b, in, q, b.N) })
	})
	b.Run("driver", func(b *testing.B) {
		q := newBenchQueue(b, c)
		b.ResetTimer()
		both(func() { ourPublish(b, br, q, b.N) }, func() { ourConsume(b, br, q, b.N) })
	})
}
