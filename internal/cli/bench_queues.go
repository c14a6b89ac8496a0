package cli

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// benchPrefetch is how many deliveries a consumer may have that are not acked.
const benchPrefetch = 2000

// stampSize is the part of a body that says when it was sent.
const stampSize = 8

// benchQueues is one `lockkeeper bench queues`.
type benchQueues struct {
	*app
	benchBounds
	size        int
	window      int
	orderKeys   int
	publishOnly bool

	began      time.Time
	sent       atomic.Int64
	acked      atomic.Int64
	durability atomic.Value // queue.Durability
	confirm    *latencies
	endToEnd   *latencies
}

func (a *app) benchQueuesCommand() *cobra.Command {
	b := &benchQueues{app: a, confirm: newLatencies(), endToEnd: newLatencies()}
	cmd := &cobra.Command{
		Use:   "queues",
		Short: "Measure publishing, and consuming at the same time",
		Long: `Measure publishing and, at the same time, consuming with acks, on a queue of
its own that is deleted at the end. confirm is from sending a message to its
confirm; end to end is from sending it to holding it in a consumer.

The publishing is pipelined: --window messages may be unconfirmed. A window of
1 with --concurrency 1 measures a lone synchronous publisher.`,
		Example: `  lockkeeper bench queues
  lockkeeper bench queues --size 1024 --concurrency 4
  lockkeeper bench queues --publish-only --window 1 --concurrency 64`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.check(cmd); err != nil {
				return err
			}
			switch {
			case b.size < stampSize || b.size > driver.MaxBody:
				return usageOf(cmd, fmt.Errorf("--size must be %d to %d, is %d", stampSize, driver.MaxBody, b.size))
			case b.window < 1 || b.window > maxBenchNames || b.orderKeys < 0 || b.orderKeys > maxBenchNames:
				return usageOf(cmd, fmt.Errorf("--window must be 1 to %d, --order-keys 0 to as many", maxBenchNames))
			}
			return b.run(cmd.Context())
		},
	}
	b.flags(cmd, 2, "how many publishers, and how many consumers")
	cmd.Flags().IntVar(&b.size, "size", 256, "bytes of a body")
	cmd.Flags().IntVar(&b.window, "window", queue.DefaultWindow, "unconfirmed messages of a publisher at most")
	cmd.Flags().IntVar(&b.orderKeys, "order-keys", 0, "give messages so many different order keys; 0: none")
	cmd.Flags().BoolVar(&b.publishOnly, "publish-only", false, "do not consume")
	return cmd
}

func (b *benchQueues) run(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	conn, err := queue.OpenConn(ctx, b.url) // mem:// makes sense here
	if err != nil {
		return err
	}
	// What is in flight when the time is over goes with the queue: no news.
	queues := queue.New(conn, &queue.Config{Logger: slog.New(slog.DiscardHandler)})
	defer closing(&err, queues.Close)
	name := "bench-" + rand.Text()
	if err := queues.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: name}}}); err != nil {
		return err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), benchCleanup)
		defer cancel()
		closing(&err, func() error { return queues.Delete(clean, &queue.DeleteRequest{Queue: name}) })
	}()
	timed, cancel := b.context(ctx)
	defer cancel()
	first := &firstError{cancel: cancel}
	b.began = time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var workers sync.WaitGroup
		for w := range b.concurrency {
			workers.Go(func() { b.orFail(timed, first, b.publish(timed, queues, name, w)) })
			if !b.publishOnly {
				workers.Go(func() { b.orFail(timed, first, b.consume(timed, queues, name)) })
			}
		}
		workers.Wait()
	}()
	rows := []measured{{"publish (confirm)", b.confirm}}
	if !b.publishOnly {
		rows = append(rows, measured{"consume (end to end)", b.endToEnd})
	}
	b.follow(done, &benchProgress{benchBounds: &b.benchBounds, title: "bench queues", began: b.began, rows: rows})
	took := time.Since(b.began)
	if first.err != nil {
		return first.err
	}
	if err := b.print(took, rows); err != nil {
		return err
	}
	return b.cutShort(ctx)
}

// print prints the result; for a person also what follows from it.
func (b *benchQueues) print(took time.Duration, rows []measured) error {
	durability, _ := b.durability.Load().(queue.Durability)
	err := b.printBench(string(durability), took, rows)
	published := b.confirm.count()
	if err != nil || b.json || published == 0 {
		return err
	}
	text := fmt.Sprintf("bodies published: %.1f MB/s", float64(published)*float64(b.size)/took.Seconds()/1e6)
	if !b.publishOnly {
		text += fmt.Sprintf("; acked of what was published: %.1f %%", 100*float64(b.acked.Load())/float64(published))
	}
	_, err = fmt.Fprintln(b.Out, text)
	return err
}

func (b *benchQueues) orFail(timed context.Context, first *firstError, err error) {
	if err != nil && timed.Err() == nil {
		first.set(err)
	}
}

// stamped is a message on its way to its confirm.
type stamped struct {
	pending *queue.Pending
	at      time.Time
}

func (b *benchQueues) publish(ctx context.Context, queues *queue.Broker, name string, worker int) (err error) {
	publisher := queues.Publisher(&queue.PublisherOptions{Window: b.window})
	flight := make(chan stamped, b.window)
	confirmed := make(chan error, 1)
	go func() { confirmed <- b.confirms(ctx, flight) }()
	defer func() {
		close(flight)
		if e := <-confirmed; err == nil {
			err = e
		}
		closing(&err, publisher.Close)
	}()
	route := queue.Route{Key: name}
	for i := worker; ; i += b.concurrency {
		if ctx.Err() != nil || b.count > 0 && b.sent.Add(1) > int64(b.count) {
			return nil
		}
		m := &queue.Message{Body: make([]byte, b.size)}
		if b.orderKeys > 0 {
			m.OrderKey = strconv.Itoa(i % b.orderKeys)
		}
		now := time.Now()
		binary.BigEndian.PutUint64(m.Body, uint64(now.Sub(b.began)))
		pending, err := publisher.Send(ctx, route, m)
		if err != nil {
			return err
		}
		flight <- stamped{pending, now}
	}
}

// confirms waits for the receipts in the order of sending.
func (b *benchQueues) confirms(ctx context.Context, flight <-chan stamped) error {
	var failed error
	record := b.confirm.recorder()
	for s := range flight {
		receipt, err := s.pending.Receipt(context.WithoutCancel(ctx))
		if err != nil {
			failed = err
			continue
		}
		if b.durability.Load() == nil {
			b.durability.Store(receipt.Durability)
		}
		record.record(time.Since(s.at))
	}
	return failed
}

func (b *benchQueues) consume(ctx context.Context, queues *queue.Broker, name string) (err error) {
	consumer, err := queues.Consumer(ctx, name, &queue.ConsumerOptions{Prefetch: benchPrefetch})
	if err != nil {
		return err
	}
	defer closing(&err, consumer.Close)
	record := b.endToEnd.recorder()
	var acks sync.WaitGroup // at most as many as are leased ahead
	defer acks.Wait()
	for {
		if b.count > 0 && b.acked.Load() >= int64(b.count) {
			return nil
		}
		deliveries, err := b.receive(ctx, consumer)
		if err != nil {
			return err
		}
		if len(deliveries) == 0 {
			continue
		}
		for _, d := range deliveries {
			sent := time.Duration(binary.BigEndian.Uint64(d.Message.Body))
			record.record(time.Since(b.began) - sent)
			acks.Go(func() {
				if d.Ack(ctx) == nil {
					b.acked.Add(1)
				}
			})
		}
	}
}

// receive comes back now and then, so that --count is noticed by a consumer
// that gets nothing more.
func (b *benchQueues) receive(ctx context.Context, consumer *queue.Consumer) ([]*queue.Delivery, error) {
	soon, cancel := context.WithTimeoutCause(ctx, progressInterval, errIdle)
	defer cancel()
	deliveries, err := consumer.Receive(soon, 500)
	if errors.Is(err, errIdle) {
		return nil, nil
	}
	return deliveries, err
}
