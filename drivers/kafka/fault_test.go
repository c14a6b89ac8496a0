package kafka

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// faultsEnv is how often each fault happens:
//
//	LOCKKEEPER_KAFKA_FAULTS=50 go test -run 'Killed|Rebalance|Cut|BlackHole|Delay' -timeout 60m -v ./drivers/kafka
const faultsEnv = "LOCKKEEPER_KAFKA_FAULTS"

// usualFaults is how often without it.
const usualFaults = 2

func times(t *testing.T) int {
	t.Helper()
	text := os.Getenv(faultsEnv)
	if text == "" {
		return usualFaults
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s must be a number, is %q", faultsEnv, text)
	}
	return n
}

// TestBrokerKilled kills the broker while messages are published and handled,
// and starts it again.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	s := realserver.StartKafka(t)
	url := "kafka://" + s.Addr()
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "killed")
	tr.run(pub, func(context.Context) {
		for range times(t) {
			tr.progress(200)
			s.Kill(t)
			s.Start(t)
		}
		tr.progress(100)
	}, sub)
}

// TestRebalance has members join the group and leave it all the time.
func TestRebalance(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?session=6s"
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "rebalance")
	tr.run(pub, func(ctx context.Context) {
		for range 2 * times(t) {
			tr.progress(100)
			other := queue.New(openURL(t, url), quiet)
			serving, leave := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() { tr.serve(serving, other) })
			tr.progress(300)
			leave()
			wg.Wait()
			if err := other.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		tr.progress(100)
	}, sub)
}

// TestLostPartition: what a client held that the group took for dead is not held
// any more, and is delivered to another.
func TestLostPartition(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?partitions=1&drain=500ms"
	first, second := openURL(t, url), openURL(t, url)
	defer first.Close()
	defer second.Close()
	ctx := t.Context()
	q := "lost partition"
	if _, err := first.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		t.Fatal(err)
	}
	rs, err := first.Publish(ctx, []driver.Publishing{{Route: driver.Route{Key: q}, Message: &driver.Message{Body: []byte("a")}}})
	if err != nil || rs[0].Err != nil {
		t.Fatalf("Publish: %v %v", rs, err)
	}
	receive := func(c driver.Conn) driver.Delivery {
		t.Helper()
		ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 1, Wait: 30 * time.Second})
		if err != nil || len(ds) != 1 {
			t.Fatalf("Receive: %v %v", ds, err)
		}
		return ds[0]
	}
	old := receive(first)
	s := first.(*conn).sources[q]
	s.lost(ctx, s.cl, map[string][]int32{queueTopic(q): {0}}) // as the client says it
	for verb := driver.Ack; verb <= driver.Extend; verb++ {
		out, err := first.Settle(ctx, []driver.Settlement{{Ref: old.Ref, Verb: verb}})
		if err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
			t.Errorf("verb %d on a delivery of a lost partition: %v %v", verb, out, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := receive(second)
	if string(again.Message.Body) != "a" || again.Attempt != 1 {
		t.Errorf("the other got %+v", again)
	}
	out, err := second.Settle(ctx, []driver.Settlement{{Ref: again.Ref, Verb: driver.Ack}})
	if err != nil || out[0].Err != nil {
		t.Errorf("ack: %v %v", out, err)
	}
}

// TestRestartedConsumer: what was settled does not come again, also behind a
// message that was not; that one does.
func TestRestartedConsumer(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?partitions=1"
	q := "restarted consumer"
	ctx := t.Context()
	c := openURL(t, url)
	if _, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		t.Fatal(err)
	}
	var ps []driver.Publishing
	for _, b := range []string{"1", "2", "3"} {
		ps = append(ps, driver.Publishing{Route: driver.Route{Key: q}, Message: &driver.Message{Body: []byte(b)}})
	}
	if rs, err := c.Publish(ctx, ps); err != nil || rs[2].Err != nil {
		t.Fatal(rs, err)
	}
	receive := func() []driver.Delivery {
		t.Helper()
		ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 10})
		if err != nil {
			t.Fatal(err)
		}
		return ds
	}
	ack := func(ds ...driver.Delivery) {
		t.Helper()
		for _, d := range ds {
			out, err := c.Settle(ctx, []driver.Settlement{{Ref: d.Ref, Verb: driver.Ack}})
			if err != nil || out[0].Err != nil {
				t.Fatal(out, err)
			}
		}
	}
	ds := receive()
	if len(ds) != 3 {
		t.Fatalf("got %d messages", len(ds))
	}
	ack(ds[0], ds[2])
	c.Close()
	c = openURL(t, url)
	defer func() { c.Close() }()
	ds = receive()
	if len(ds) != 2 || string(ds[0].Message.Body) != "2" || string(ds[1].Message.Body) != "3" {
		t.Fatalf("after the restart came %+v, want 2, and 3 which is behind it", ds)
	}
	ack(ds...)
	c.Close()
	c = openURL(t, url)
	if ds = receive(); len(ds) != 0 {
		t.Errorf("when all was acked came %+v", ds)
	}
}

// TestPoison: a message whose handler always fails is dead-lettered after exactly
// the limit; the others go on, and those of its key follow it.
func TestPoison(t *testing.T) {
	t.Parallel()
	const limit, others = 4, 200
	b := openBroker(t, "kafka://"+realserver.SharedKafka(t).Addr())
	err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{
		{Name: "poison dead"},
		{Name: "poison", DeadLetter: &queue.Route{Key: "poison dead"}, DeliveryLimit: limit, Backoff: queue.Backoff{Min: 20 * time.Millisecond, Max: 50 * time.Millisecond}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ms := []*queue.Message{{ID: "poison", OrderKey: "0", Body: []byte("poison")}}
	for i := range others {
		ms = append(ms, &queue.Message{OrderKey: strconv.Itoa(i % 10), Body: []byte(strconv.Itoa(i))})
	}
	if _, err := b.Publish(t.Context(), queue.Route{Key: "poison"}, ms...); err != nil {
		t.Fatal(err)
	}
	var failed, handled atomic.Int64
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(done)
		_ = b.Serve(ctx, "poison", func(_ context.Context, d *queue.Delivery) error {
			if d.Message.ID == "poison" {
				if n := failed.Add(1); int(n) != d.Attempt {
					t.Errorf("failure %d is attempt %d", n, d.Attempt)
				}
				return errors.New("it always fails")
			}
			if d.Message.OrderKey == "0" && failed.Load() < limit {
				t.Error("one of its key overtook it")
			}
			handled.Add(1)
			return nil
		}, &queue.ServeOptions{Concurrency: 8})
	}()
	c, err := b.Consumer(ctx, "poison dead", nil)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := c.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	h := ds[0].Message.Headers
	if h[driver.HeaderDeathReason] != driver.ReasonDeliveryLimit || h[driver.HeaderDeathAttempts] != int64(limit) ||
		h[driver.HeaderDeathDetail] != "it always fails" || h[driver.HeaderOriginalKey] != "poison" {
		t.Errorf("the story is %v", h)
	}
	if err := ds[0].Ack(ctx); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(30 * time.Second); handled.Load() < others && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls up to a deadline
	}
	cancel()
	<-done
	if failed.Load() != limit || handled.Load() != others {
		t.Errorf("the poison was tried %d times, want %d; %d of %d others were handled", failed.Load(), limit, handled.Load(), others)
	}
}
