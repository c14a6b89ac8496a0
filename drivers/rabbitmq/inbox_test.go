package rabbitmq

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestAcksPutTogether: acks that were put together are not lost when the consumer
// is detached or the client is closed at once, and ack nothing else. The queue is
// a classic one: a broker forgets acks for a quorum queue that it has not passed on
// when the connection is closed.
func TestAcksPutTogether(t *testing.T) {
	t.Parallel()
	const n = 100
	url := "amqp://" + realserver.SharedRabbitMQ(t).Addr() + "?queue_type=classic&prefix=together."
	ctx := t.Context()
	for name, leave := range map[string]func(driver.Conn, string) error{
		"close":  func(c driver.Conn, _ string) error { return c.Close() },
		"detach": func(c driver.Conn, q string) error { return c.Detach(ctx, q, "c") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, other := openURL(t, url), openURL(t, url)
			defer other.Close()
			defer c.Close()
			q := "put together " + name
			if _, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
				t.Fatal(err)
			}
			ps := make([]driver.Publishing, n)
			for i := range ps {
				ps[i] = driver.Publishing{Route: driver.Route{Key: q}, Message: &driver.Message{ID: fmt.Sprint(i)}}
			}
			if _, err := c.Publish(ctx, ps); err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			receive := func(c driver.Conn, count int, each func(driver.Delivery)) {
				t.Helper()
				for got := 0; got < count; {
					ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: count - got, Wait: 10 * time.Second, Ahead: 2 * n})
					if err != nil || len(ds) == 0 {
						t.Fatalf("after %d of %d: %v %v", got, count, ds, err)
					}
					got += len(ds)
					for _, d := range ds {
						each(d)
					}
				}
			}
			var all []driver.Delivery
			receive(c, n, func(d driver.Delivery) { all = append(all, d) })
			for i, d := range all {
				verb := driver.Ack
				if i%3 > 0 {
					want[d.Message.ID] = true
					verb = driver.Release
				}
				if i%3 == 1 {
					continue // it stays with the consumer
				}
				out, err := c.Settle(ctx, []driver.Settlement{{Ref: d.Ref, Verb: verb}})
				if err != nil || out[0].Err != nil {
					t.Fatal(i, out, err)
				}
			}
			if err := leave(c, q); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			receive(other, len(want), func(d driver.Delivery) {
				got[d.Message.ID] = true
				if _, err := other.Settle(ctx, []driver.Settlement{{Ref: d.Ref, Verb: driver.Ack}}); err != nil {
					t.Error(err)
				}
			})
			ds, err := other.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "d", Max: 1, Wait: 50 * time.Millisecond})
			if err != nil || len(ds) > 0 || !maps.Equal(got, want) {
				t.Errorf("%d came back, want %v: %v; then %v %v", len(got), slices.Sorted(maps.Keys(want)), got, ds, err)
			}
			if err := other.Delete(ctx, &driver.DeleteRequest{Queue: q}); err != nil {
				t.Error(err)
			}
		})
	}
}
