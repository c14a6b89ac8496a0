package bench

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// How Lockkeeper's queues are used.
const (
	queueName   = "bench"
	queueLease  = time.Minute
	handlers    = 512  // of a consumer, at once
	sendWindow  = 8192 // messages of a publisher that are not confirmed
	sendBatch   = 1000 // messages in one call of the driver
	handlersBig = 16   // for large bodies
)

// broker is a queue of Lockkeeper's.
type broker struct {
	*queue.Broker
	handlers int
}

// brokerAt opens the queues of a URL: one client, and with a daemon one
// connection.
func brokerAt(t testing.TB, url string) *broker {
	t.Helper()
	conn, err := queue.OpenConn(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	b := queue.New(conn, &queue.Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: queueName, Lease: queueLease}}}); err != nil {
		t.Fatal(err)
	}
	return &broker{b, handlers}
}

func (b *broker) publish(ctx context.Context, body []byte, more func() bool) error {
	p := b.Publisher(&queue.PublisherOptions{Window: sendWindow, MaxBatch: sendBatch})
	for more() {
		if _, err := p.Send(ctx, queue.Route{Key: queueName}, &queue.Message{Body: body}); err != nil {
			_ = p.Close() // the failure of the Send is what is told
			return err
		}
	}
	return p.Close() // waits for all confirms
}

func (b *broker) consume(ctx context.Context, each func()) error {
	return b.Serve(ctx, queueName, func(context.Context, *queue.Delivery) error {
		each()
		return nil
	}, &queue.ServeOptions{Concurrency: b.handlers})
}

// Whose queues are measured.
var (
	queueInMemory makeCourier = func(t testing.TB, _ *Servers) (courier, int) { t.Helper(); return brokerAt(t, "mem://"), os.Getpid() }
	queueOnDisk   makeCourier = func(t testing.TB, _ *Servers) (courier, int) {
		t.Helper()
		return brokerAt(t, newStore(t)), os.Getpid()
	}
	queueByDaemon       = queueBy("")
	queueByMemoryDaemon = queueBy("mem")
)

func queueBy(data string) makeCourier {
	return func(t testing.TB, _ *Servers) (courier, int) {
		t.Helper()
		d := startDaemon(t, data)
		return brokerAt(t, d.url), d.Pid()
	}
}

// large makes the couriers of a maker fit for large bodies.
func large(open makeCourier) makeCourier {
	return func(t testing.TB, s *Servers) (courier, int) {
		t.Helper()
		c, pid := open(t, s)
		if b, ok := c.(*broker); ok {
			b.handlers = handlersBig
		}
		return c, pid
	}
}

// runPublishers measures publishers that wait for the confirm of each message.
func runPublishers(url func(testing.TB) string, workers int) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, _ *Servers, span time.Duration) Figures {
		t.Helper()
		b := brokerAt(t, url(t))
		ctx, route, body := t.Context(), queue.Route{Key: queueName}, randomBody(smallBody)
		return drive(t, span, workers, func(int) error {
			_, err := b.Publish(ctx, route, &queue.Message{Body: body})
			return err
		})
	}
}
