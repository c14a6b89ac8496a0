package rabbitmq

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// faultsEnv is how often each fault happens; 2 without it:
//
//	LOCKKEEPER_RABBITMQ_FAULTS=50 go test -run 'Killed|Cut|BlackHole|Delay' -timeout 60m -v ./drivers/rabbitmq
const faultsEnv = "LOCKKEEPER_RABBITMQ_FAULTS"

func times(t *testing.T) int {
	t.Helper()
	text := os.Getenv(faultsEnv)
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s must be a number, is %q", faultsEnv, text)
	}
	return n
}

// fast are the parameters of a client that notices quickly.
const fast = "?heartbeat=1s&timeout=5s"

// queueAge is what a quorum queue survives a crash with: RabbitMQ 3.10 writes the
// names of its queues with a delay, and forgets what is in younger ones.
const queueAge = 5 * time.Second

// TestBrokerKilled kills the broker while messages are published and handled,
// and starts it again.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	s := realserver.StartRabbitMQ(t)
	url := "amqp://" + s.Addr() + fast
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "killed")
	tr.run(pub, sub, func() {
		drivertest.Pause(queueAge)
		for range times(t) {
			tr.progress(200)
			s.Kill(t)
			s.Start(t)
		}
		tr.progress(50)
	})
}

// TestConnectionsCut cuts all connections, again and again.
func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	p := drivertest.NewProxy(t, realserver.SharedRabbitMQ(t).Addr())
	url := "amqp://" + p.Addr() + fast
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "cut")
	tr.run(pub, sub, func() {
		for range 5 * times(t) {
			tr.progress(100)
			p.Cut()
		}
		tr.progress(50)
	})
}

// TestBlackHole lets nothing through, in one direction or both, for longer than
// it takes to notice.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	for name, dark := range map[string][]int{
		"nothing gets there":      {drivertest.ToServer},
		"nothing comes back":      {drivertest.ToClient},
		"nothing gets either way": {drivertest.ToServer, drivertest.ToClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := drivertest.NewProxy(t, realserver.SharedRabbitMQ(t).Addr())
			url := "amqp://" + p.Addr() + fast
			pub, sub := openBroker(t, url), openBroker(t, url)
			tr := newTraffic(t, pub, name)
			tr.run(pub, sub, func() {
				tr.progress(100)
				p.Swallow(dark...)
				drivertest.Pause(5 * time.Second) // three heartbeats, and some
				p.Heal()
				tr.progress(100)
			})
		})
	}
}

// TestDelay has everything arrive late, and later each time. What is half a
// heartbeat late cuts no connection.
func TestDelay(t *testing.T) {
	t.Parallel()
	p := drivertest.NewProxy(t, realserver.SharedRabbitMQ(t).Addr())
	url := "amqp://" + p.Addr() + fast
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "delay")
	tr.run(pub, sub, func() {
		for i := range 2 * times(t) {
			p.Delay(time.Duration(10+40*(i%5)) * time.Millisecond)
			tr.progress(2 * publishBatch)
		}
		p.Delay(0)
		tr.progress(publishBatch)
	})
}

// TestDeadConnection: what a lost connection delivered is not held any more, and
// its tag settles nothing on the next.
func TestDeadConnection(t *testing.T) {
	t.Parallel()
	p := drivertest.NewProxy(t, realserver.SharedRabbitMQ(t).Addr())
	c := openURL(t, "amqp://"+p.Addr()+fast)
	defer c.Close()
	ctx := t.Context()
	publishOne := func(q, body string) {
		t.Helper()
		rs, err := c.Publish(ctx, []driver.Publishing{{Route: driver.Route{Key: q}, Message: &driver.Message{Body: []byte(body)}, Mandatory: true}})
		if err != nil || rs[0].Err != nil {
			t.Fatalf("Publish: %v %v", rs, err)
		}
	}
	receiveOne := func(q string) driver.Delivery {
		t.Helper()
		for {
			ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 1, Wait: 10 * time.Second})
			switch {
			case errors.Is(err, lease.ErrUnavailable):
			case err != nil || len(ds) != 1:
				t.Fatalf("Receive: %v %v", ds, err)
			default:
				return ds[0]
			}
		}
	}
	q := "dead connection"
	if _, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		t.Fatal(err)
	}
	publishOne(q, "a")
	old := receiveOne(q)
	p.Cut()
	again := receiveOne(q)
	if string(again.Message.Body) != "a" || again.Attempt != 2 || again.Token <= old.Token {
		t.Fatalf("first %+v, then %+v", old, again)
	}
	for verb := driver.Ack; verb <= driver.Extend; verb++ {
		out, err := c.Settle(ctx, []driver.Settlement{{Ref: old.Ref, Verb: verb}})
		if err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
			t.Errorf("verb %d on a delivery of the lost connection: %v %v", verb, out, err)
		}
	}
	out, err := c.Settle(ctx, []driver.Settlement{{Ref: again.Ref, Verb: driver.Ack}})
	if err != nil || out[0].Err != nil {
		t.Errorf("ack: %v %v", out, err)
	}
	ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 1})
	if err != nil || len(ds) != 0 {
		t.Errorf("after the ack: %v %v", ds, err)
	}
}

// TestPoison: a message whose handler always fails is dead-lettered after exactly
// the limit, and the others go on.
func TestPoison(t *testing.T) {
	t.Parallel()
	const limit, others = 4, 200
	b := openBroker(t, "amqp://"+realserver.SharedRabbitMQ(t).Addr())
	err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{
		{Name: "poison dead"},
		{Name: "poison", DeadLetter: &queue.Route{Key: "poison dead"}, DeliveryLimit: limit, Backoff: queue.Backoff{Min: 20 * time.Millisecond, Max: 50 * time.Millisecond}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ms := []*queue.Message{{ID: "poison", Body: []byte("poison")}}
	for i := range others {
		ms = append(ms, &queue.Message{Body: []byte(strconv.Itoa(i))})
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
