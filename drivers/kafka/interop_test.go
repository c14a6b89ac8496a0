package kafka

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// kafkaPython is the version of the Python client that the tests talk to.
const kafkaPython = "kafka-python==3.0.12"

// python runs a program that uses the client, which is installed for it alone.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	exe, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing: install it with pip (on Debian: apt-get install python3-pip) and run the tests again")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, exe, "-m", "pip", "install", "-q", "--target", dir, kafkaPython).CombinedOutput(); err != nil {
		t.Fatalf("pip install %s: %v\n%s", kafkaPython, err, out)
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{"-c", program}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, out)
	}
	return string(out)
}

// bothWays publishes to a queue and to an exchange, and prints what it reads.
const bothWays = `
import sys
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
p = KafkaProducer(bootstrap_servers=sys.argv[1], acks='all')
p.send('python.in.queue', b'\x00\xff from python', key=b'customer 7', headers=[
    ('lockkeeper-id', b'py-1'), ('lockkeeper-content-type', b'text/plain'), ('plain', 'gr\u00fc\u00dfe'.encode()), ('raw', b'\xff')])
p.send('python.events', b'by its key', key=b'order.paid')
p.send('python.events', b'by a header', key=b'k', headers=[('lockkeeper-key', b'order.sent')])
p.send('python.events', b'for nobody', key=b'other')
p.flush()
c = KafkaConsumer(bootstrap_servers=sys.argv[1], auto_offset_reset='earliest', consumer_timeout_ms=20000)
c.assign([TopicPartition('python.out.queue', 0)])
m = next(c)
print(m.key, m.value, sorted(m.headers))
`

// TestPython: what we publish another client can read, and the other way round.
func TestPython(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedKafka(t).Addr()
	c := openURL(t, "kafka://"+addr+"?partitions=1")
	defer c.Close()
	ctx := t.Context()
	top := &driver.Topology{
		Exchanges: []driver.Exchange{{Name: "python.events", Kind: driver.Topic}},
		Queues:    []driver.Queue{{Name: "python.in"}, {Name: "python.out"}, {Name: "python.orders"}},
		Bindings:  []driver.Binding{{Exchange: "python.events", Queue: "python.orders", Key: "order.*"}},
	}
	if _, err := c.Declare(ctx, top, false); err != nil {
		t.Fatal(err)
	}
	defer forgets(t, c, top)
	rs, err := c.Publish(ctx, []driver.Publishing{{Route: driver.Route{Key: "python.out"}, Message: &driver.Message{
		ID: "go-1", OrderKey: "customer 7", Body: []byte("\x00\xff from go"), ContentType: "application/x", TTL: time.Hour,
		Headers: driver.Headers{"n": int64(7), "s": "grüße", "b": true},
	}}})
	if err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	got := python(t, bothWays, addr)
	want := `b'customer 7' b'\x00\xff from go' [('b', b'true'), ('lockkeeper-content-type', b'application/x'), ` +
		`('lockkeeper-headers', b'{"b":true,"n":7}'), ('lockkeeper-id', b'go-1'), ('lockkeeper-ttl', b'3600000'), ` +
		`('n', b'7'), ('s', b'gr\xc3\xbc\xc3\x9fe')]` + "\n"
	if got != want {
		t.Errorf("python got\n%s, want\n%s", got, want)
	}
	receive := func(q string, n int) (all []driver.Delivery) {
		t.Helper()
		for len(all) < n {
			ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 10, Wait: 10 * time.Second})
			if err != nil || len(ds) == 0 {
				t.Fatalf("Receive from %s: %v %v", q, ds, err)
			}
			all = append(all, ds...)
		}
		return all
	}
	m := receive("python.in", 1)[0].Message
	raw, _ := m.Headers["raw"].([]byte)
	if string(m.Body) != "\x00\xff from python" || m.ID != "py-1" || m.ContentType != "text/plain" || m.OrderKey != "customer 7" ||
		m.Headers["plain"] != "grüße" || string(raw) != "\xff" || len(m.Headers) != 2 {
		t.Errorf("from python: %+v", m)
	}
	ds := receive("python.orders", 2)
	for i, want := range []driver.Route{{Exchange: "python.events", Key: "order.paid"}, {Exchange: "python.events", Key: "order.sent"}} {
		if ds[i].Route != want {
			t.Errorf("message %d, %q, came by %+v, want %+v", i, ds[i].Message.Body, ds[i].Route, want)
		}
	}
	if more, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: "python.orders", Consumer: "c", Max: 10}); err != nil || len(more) > 0 {
		t.Errorf("what matches nothing came, too: %+v %v", more, err)
	}
}
