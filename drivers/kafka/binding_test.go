package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestBindingWhileReading: what is published after a binding was declared comes,
// also to a client that reads the exchange all the time and has to hear of the
// binding from another; what was published before does not.
func TestBindingWhileReading(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?partitions=1"
	admin, reader := openURL(t, url), openURL(t, url)
	defer admin.Close()
	defer reader.Close()
	ctx := t.Context()
	name := "binding while reading"
	declare := func(top driver.Topology) {
		t.Helper()
		if _, err := admin.Declare(ctx, &top, false); err != nil {
			t.Fatal(err)
		}
	}
	bind := func(key string) driver.Topology {
		return driver.Topology{Bindings: []driver.Binding{{Exchange: name, Queue: name, Key: key}}}
	}
	publish := func(key, body string) {
		t.Helper()
		rs, err := admin.Publish(ctx, []driver.Publishing{{Route: driver.Route{Exchange: name, Key: key}, Message: &driver.Message{Body: []byte(body)}}})
		if err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
	}
	top := bind("first")
	top.Exchanges = []driver.Exchange{{Name: name, Kind: driver.Direct}}
	top.Queues = []driver.Queue{{Name: name}}
	declare(top)
	defer forgets(t, admin, &top)
	want := func(body string) {
		t.Helper()
		ds, err := reader.Receive(ctx, &driver.ReceiveRequest{Queue: name, Consumer: "c", Max: 10, Wait: 20 * time.Second})
		if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != body {
			t.Fatalf("got %+v, %v; want %s", ds, err, body)
		}
		if out, err := reader.Settle(ctx, []driver.Settlement{{Ref: ds[0].Ref, Verb: driver.Ack}}); err != nil || out[0].Err != nil {
			t.Fatal(out, err)
		}
	}
	publish("first", "begin")
	want("begin")
	// A reader that is late to hear of it has the message before.
	late := reader.(*conn)
	late.mu.Lock()
	declare(bind("late"))
	publish("late", "late")
	late.pass(ctx, 500*time.Millisecond) // in which a reader that does not wait would drop it
	late.mu.Unlock()
	want("late")
	for i := range 20 {
		key := fmt.Sprint("key ", i)
		publish(key, "too early")
		declare(bind(key))
		publish(key, key)
		want(key)
	}
}
