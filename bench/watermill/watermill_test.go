// Package watermill measures the driver for RabbitMQ beside the client that it is
// made of, and beside Watermill's driver, on one broker:
//
//	go -C bench test -run '^$' -bench . -benchtime 20000x ./watermill
//
// Messages have 256 bytes, are persistent and go through a quorum queue.
//
//   - raw: amqp091-go alone, 2,048 messages unconfirmed at most, a prefetch of
//     1,000 and an ack for each message.
//   - driver: Lockkeeper, with the same window and prefetch and 64 handlers.
//   - watermill-default: NewDurableQueueConfig as it is: a channel for each
//     publish, no confirms, a prefetch of 1; one publisher, one subscriber.
//   - watermill-best: ChannelPoolSize and as many publishers, ConfirmDelivery
//     (without it a message may be lost), a prefetch of 1,000, and as many
//     subscribers, since each waits for the ack of a message before the next.
package watermill

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/drivers/rabbitmq"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue"
)

const (
	bodySize = 256
	window   = 2048
	prefetch = 1000
	handlers = 64
	pool     = 64 // of Watermill's channels, publishers and subscribers
)

func TestMain(m *testing.M) { os.Exit(realserver.Run(m)) }

// way is one client.
type way interface {
	// publisher makes what publishes n messages and returns when they are as
	// safe as the way has it.
	publisher(b *testing.B, q string) (publish func(n int))
	// consumer makes what consumes, and begins.
	consumer(b *testing.B, q string, handled func())
}

func ways(b *testing.B) []struct {
	name string
	way  way
} {
	b.Helper()
	addr := realserver.SharedRabbitMQ(b).Addr()
	url := "amqp://guest:guest@" + addr + "/"
	c, err := rabbitmq.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	broker := queue.New(c, nil)
	b.Cleanup(func() { _ = broker.Close() }) // nothing is left to be handed back
	return []struct {
		name string
		way  way
	}{
		{"raw", raw{url}},
		{"driver", driver{broker}},
		{"watermill-default", mill{url, 1, false}},
		{"watermill-best", mill{url, pool, true}},
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, w := range ways(b) {
		b.Run(w.name, func(b *testing.B) {
			publish := w.way.publisher(b, newQueue(b))
			b.ResetTimer()
			publish(b.N)
			b.StopTimer()
		})
	}
}

func BenchmarkPublishAndConsume(b *testing.B) {
	for _, w := range ways(b) {
		b.Run(w.name, func(b *testing.B) {
			q := newQueue(b)
			publish := w.way.publisher(b, q)
			var left atomic.Int64
			left.Store(int64(b.N))
			all := make(chan struct{})
			w.way.consumer(b, q, func() {
				if left.Add(-1) == 0 {
					close(all)
				}
			})
			var wg sync.WaitGroup
			b.ResetTimer()
			wg.Go(func() { publish(b.N) })
			<-all
			b.StopTimer()
			wg.Wait()
		})
	}
}

var queues atomic.Int64

var quorum = amqp.Table{"x-queue-type": "quorum"}

func newQueue(b *testing.B) string {
	b.Helper()
	ch := channel(b, "amqp://guest:guest@"+realserver.SharedRabbitMQ(b).Addr()+"/")
	q := fmt.Sprint("bench ", queues.Add(1))
	if _, err := ch.QueueDeclare(q, true, false, false, false, quorum); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = ch.QueueDelete(q, false, false, false) }) // the broker ends with the process
	return q
}

func channel(b *testing.B, url string) *amqp.Channel {
	b.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() }) // it may be closed
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

type raw struct{ url string }

func (r raw) publisher(b *testing.B, q string) func(n int) {
	b.Helper()
	ch := channel(b, r.url)
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, window))
	body := make([]byte, bodySize)
	return func(n int) {
		open := 0
		for range n {
			if open == window {
				<-confirms
				open--
			}
			if err := ch.Publish("", q, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}); err != nil {
				b.Error(err)
				return
			}
			open++
		}
		for ; open > 0; open-- {
			<-confirms
		}
	}
}

func (r raw) consumer(b *testing.B, q string, handled func()) {
	b.Helper()
	ch := channel(b, r.url)
	if err := ch.Qos(prefetch, 0, false); err != nil {
		b.Fatal(err)
	}
	ds, err := ch.Consume(q, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for d := range ds {
			if err := ch.Ack(d.DeliveryTag, false); err != nil {
				b.Error(err)
			}
			handled()
		}
	}()
}

type driver struct{ broker *queue.Broker }

func (d driver) publisher(b *testing.B, q string) func(n int) {
	b.Helper()
	p := d.broker.Publisher(&queue.PublisherOptions{Window: window})
	body := make([]byte, bodySize)
	return func(n int) {
		for range n {
			if _, err := p.Send(b.Context(), queue.Route{Key: q}, &queue.Message{Body: body}); err != nil {
				b.Error(err)
				return
			}
		}
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	}
}

func (d driver) consumer(b *testing.B, q string, handled func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.broker.Serve(ctx, q, func(context.Context, *queue.Delivery) error { // it ends with ctx
			handled()
			return nil
		}, &queue.ServeOptions{Concurrency: handlers, Prefetch: prefetch})
	}()
	b.Cleanup(func() {
		cancel()
		<-done
	})
}

// mill is Watermill, with so many channels, publishers and subscribers.
type mill struct {
	url  string
	wide int
	best bool
}

func (m mill) config() wamqp.Config {
	c := wamqp.NewDurableQueueConfig(m.url)
	c.Queue.Arguments = quorum
	if m.best {
		c.Publish.ChannelPoolSize, c.Publish.ConfirmDelivery = m.wide, true
		c.Consume.Qos.PrefetchCount = prefetch
	}
	return c
}

func (m mill) publisher(b *testing.B, q string) func(n int) {
	b.Helper()
	p, err := wamqp.NewPublisher(m.config(), watermill.NopLogger{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() }) // everything is published
	body := make([]byte, bodySize)
	return func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for range m.wide {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if err := p.Publish(q, message.NewMessage(watermill.NewUUID(), body)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func (m mill) consumer(b *testing.B, q string, handled func()) {
	b.Helper()
	s, err := wamqp.NewSubscriber(m.config(), watermill.NopLogger{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() }) // everything is handled
	for range m.wide {
		ms, err := s.Subscribe(context.Background(), q)
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for msg := range ms {
				msg.Ack()
				handled()
			}
		}()
	}
}
