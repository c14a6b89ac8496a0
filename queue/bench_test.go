package queue

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// instantConn is a driver that takes all and gives as much, for nothing: what
// is left is what the portable layer costs.
type instantConn struct {
	driver.Conn
	message *Message
	left    atomic.Int64 // to be received
	seq     atomic.Uint64
	settled atomic.Int64
}

func (*instantConn) Caps() driver.Caps { return newFake().Caps() }

func (*instantConn) Publish(_ context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	rs := make([]driver.Receipt, len(ps))
	for i := range rs {
		rs[i] = driver.Receipt{Durability: driver.Synced, Queues: 1}
	}
	return rs, nil
}

func (c *instantConn) Receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	n := int(min(int64(r.Max), c.left.Load()))
	if n <= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c.left.Add(-int64(n))
	ds := make([]driver.Delivery, n)
	for i := range ds {
		seq := c.seq.Add(1)
		ds[i] = driver.Delivery{
			Ref: driver.Ref{Queue: "q", Seq: seq, Token: Token(seq)}, Message: c.message, Attempt: 1, TTL: 30 * time.Second,
		}
	}
	return ds, nil
}

func (c *instantConn) Settle(_ context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	c.settled.Add(int64(len(ss)))
	return make([]driver.Outcome, len(ss)), nil
}

func (*instantConn) Detach(context.Context, string, string) error { return nil }
func (*instantConn) Close() error                                 { return nil }

func benchBroker(b *testing.B) (*instantConn, *Broker) {
	b.Helper()
	c := &instantConn{message: &Message{Body: make([]byte, 256)}}
	broker := New(c, &Config{Logger: slog.New(slog.DiscardHandler)})
	b.Cleanup(func() { _ = broker.Close() })
	return c, broker
}

// BenchmarkPublisher pipelines messages of 256 bytes and waits for each
// receipt.
func BenchmarkPublisher(b *testing.B) {
	for name, publishers := range map[string]int{"one": 1, "two": 2} {
		b.Run(name, func(b *testing.B) {
			_, broker := benchBroker(b)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range publishers {
				wg.Go(func() { benchPublish(b, broker, b.N/publishers+min(w, b.N%publishers)) })
			}
			wg.Wait()
		})
	}
}

func benchPublish(b *testing.B, broker *Broker, n int) {
	p := broker.Publisher(nil)
	flight := make(chan *Pending, DefaultWindow)
	var confirms sync.WaitGroup
	confirms.Go(func() {
		for pending := range flight {
			if _, err := pending.Receipt(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
	body := make([]byte, 256)
	for range n {
		pending, err := p.Send(context.Background(), Route{Key: "q"}, &Message{Body: body})
		if err != nil {
			b.Error(err)
			break
		}
		flight <- pending
	}
	close(flight)
	confirms.Wait()
	if err := p.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkConsumer receives in batches and acks each delivery of a batch at
// the same time as the others.
func BenchmarkConsumer(b *testing.B) {
	conn, broker := benchBroker(b)
	conn.left.Store(int64(b.N))
	c, err := broker.Consumer(b.Context(), "q", &ConsumerOptions{Prefetch: 1000})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		ds, err := c.Receive(b.Context(), 500)
		if err != nil {
			b.Fatal(err)
		}
		n += len(ds)
		var acks sync.WaitGroup
		for _, d := range ds {
			acks.Go(func() {
				if err := d.Ack(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		acks.Wait()
	}
}

// BenchmarkServe handles messages with a handler that does nothing.
func BenchmarkServe(b *testing.B) {
	conn, broker := benchBroker(b)
	conn.left.Store(int64(b.N))
	ctx, cancel := context.WithCancel(b.Context())
	var handled atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	err := broker.Serve(ctx, "q", func(context.Context, *Delivery) error {
		if handled.Add(1) == int64(b.N) {
			cancel()
		}
		return nil
	}, &ServeOptions{Concurrency: 64, Prefetch: 1000})
	if err != nil {
		b.Fatal(err)
	}
}
