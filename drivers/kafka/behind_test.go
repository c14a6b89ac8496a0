package kafka

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// behindEnv is how many messages are behind one of a key that is not settled;
// 10,000 without it:
//
//	LOCKKEEPER_KAFKA_BEHIND=1000000 go test -run StalledKey -timeout 20m -v ./drivers/kafka
const behindEnv = "LOCKKEEPER_KAFKA_BEHIND"

// mostHeap bounds what a client keeps for messages behind one that is not
// settled, and what it reads ahead.
const mostHeap = 160 << 20

// fill publishes messages of 256 bytes of so many keys.
func fill(t *testing.T, c driver.Conn, q string, messages, keys int) {
	t.Helper()
	for from := 0; from < messages; from += 1000 {
		var ps []driver.Publishing
		for i := from; i < min(from+1000, messages); i++ {
			ps = append(ps, driver.Publishing{
				Route: driver.Route{Key: q}, Message: &driver.Message{OrderKey: fmt.Sprint("key ", i%keys), Body: make([]byte, 256)},
			})
		}
		rs, err := c.Publish(t.Context(), ps)
		if err != nil || rs[len(rs)-1].Err != nil {
			t.Fatal(err, rs[len(rs)-1])
		}
	}
}

// stalled declares a queue of one partition, and holds its first message, whose
// key has another message right behind.
func stalled(t *testing.T, c driver.Conn, q string) driver.Delivery {
	t.Helper()
	ctx := t.Context()
	if _, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: q, Lease: time.Hour}}}, false); err != nil {
		t.Fatal(err)
	}
	var ps []driver.Publishing
	for _, b := range []string{"first", "second"} {
		ps = append(ps, driver.Publishing{Route: driver.Route{Key: q}, Message: &driver.Message{OrderKey: "stalled", Body: []byte(b)}})
	}
	if _, err := c.Publish(ctx, ps); err != nil {
		t.Fatal(err)
	}
	ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 10})
	if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != "first" {
		t.Fatalf("got %+v, %v", ds, err)
	}
	return ds[0]
}

// drainAll receives and acks until so many messages were, or nothing comes for
// long; it returns how many it was.
func drainAll(t *testing.T, c driver.Conn, q string, most int, long time.Duration) (n int) {
	t.Helper()
	for n < most {
		ds, err := c.Receive(t.Context(), &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: driver.MaxReceive, Wait: long})
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		ss := make([]driver.Settlement, len(ds))
		for i := range ds {
			ss[i] = driver.Settlement{Ref: ds[i].Ref, Verb: driver.Ack}
		}
		if _, err := c.Settle(t.Context(), ss); err != nil {
			t.Fatal(err)
		}
		n += len(ds)
	}
	return n
}

// TestStalledKey: all that is behind a message of another key is delivered, and
// takes no memory once it is settled.
func TestStalledKey(t *testing.T) {
	if text := os.Getenv(behindEnv); text == "" {
		t.Parallel() // otherwise the heap is measured
	}
	messages := 10_000
	if text := os.Getenv(behindEnv); text != "" {
		var err error
		if messages, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	c := openURL(t, "kafka://"+realserver.SharedKafka(t).Addr()+"?partitions=1")
	defer c.Close()
	q := "stalled key"
	first := stalled(t, c, q)
	fill(t, c, q, messages, 1000)
	if n := drainAll(t, c, q, messages, 10*time.Second); n != messages {
		t.Fatalf("%d of %d messages behind a stalled key came", n, messages)
	}
	if os.Getenv(behindEnv) != "" {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		status, _ := os.ReadFile("/proc/self/status") // for the log
		t.Logf("heap in use %d MiB, from the system %d MiB\n%s", m.HeapInuse>>20, m.Sys>>20, status)
		if m.Sys > mostHeap {
			t.Errorf("the process has %d MiB, want at most %d", m.Sys>>20, mostHeap>>20)
		}
	}
	out, err := c.Settle(t.Context(), []driver.Settlement{{Ref: first.Ref, Verb: driver.Ack}})
	if err != nil || out[0].Err != nil {
		t.Fatal(out, err)
	}
	if n := drainAll(t, c, q, 1, 10*time.Second); n != 1 {
		t.Error("the next of the key did not come")
	}
}

// TestBounds: reading stops at the bounds of span and bytes, and goes on when
// what held it up is settled.
func TestBounds(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedKafka(t).Addr()
	for name, o := range map[string]Options{
		"span":  {Partitions: 1, Span: minSpan},
		"bytes": {Partitions: 1, Buffer: minBuffer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const messages = 20_000
			u, err := parseURL("kafka://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			c, err := New(context.Background(), u.client(), &o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			q := "bounds " + name
			first := stalled(t, c, q)
			keys := 1000
			if name == "bytes" {
				keys = 1 // all behind one
			}
			fill(t, c, q, messages, keys)
			s := c.(*conn).sources[q]
			n := 0
			if name == "span" {
				n = drainAll(t, c, q, messages, 2*time.Second)
			}
			s.mu.Lock()
			size, span := s.size, s.parts[place{s.topic, 0}].next
			s.mu.Unlock()
			if n == messages || span > minSpan+3*pollRecords && name == "span" || size > 4*minBuffer {
				t.Errorf("%d of %d came, read up to %d, with %d bytes", n, messages, span, size)
			}
			out, err := c.Settle(t.Context(), []driver.Settlement{{Ref: first.Ref, Verb: driver.Ack}})
			if err != nil || out[0].Err != nil {
				t.Fatal(out, err)
			}
			if n += drainAll(t, c, q, messages+1-n, 10*time.Second); n != messages+1 {
				t.Errorf("in the end %d of %d came", n, messages+1)
			}
		})
	}
}
