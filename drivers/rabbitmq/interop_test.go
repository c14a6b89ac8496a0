package rabbitmq

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// pika is the version of the Python client that the tests talk to.
const pika = "pika==1.4.4"

// python runs a program that uses pika, which is installed for it alone.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	exe, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing: install it with pip (on Debian: apt-get install python3-pip) and run the tests again")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, exe, "-m", "pip", "install", "-q", "--target", dir, pika).CombinedOutput(); err != nil {
		t.Fatalf("pip install %s: %v\n%s", pika, err, out)
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{"-c", program}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, out)
	}
	return string(out)
}

// bothWays publishes with pika, and prints what it gets, acks and rejects.
const bothWays = `
import pika, sys
def plain(h): # without what the broker adds, and with plain numbers
    return sorted((k, int(v) if type(v) is pika.compat.long else v) for k, v in h.items() if k != 'x-delivery-count')
c = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
ch = c.channel()
ch.confirm_delivery()
ch.basic_publish('', 'python in', b'\x00\xff from python', pika.BasicProperties(
    message_id='py-1', content_type='text/plain', correlation_id='c', reply_to='r', type='t', app_id='a', priority=3,
    timestamp=981173106, delivery_mode=2, headers={'n': 7, 's': 'gr\u00fc\u00dfe', 'b': True, 'l': [1, 'two'], 'd': {'x': 'y'}}), mandatory=True)
for _ in range(2):
    m, p, body = ch.basic_get('python out')
    print(m.exchange, m.routing_key, p.message_id, p.content_type, p.expiration, p.delivery_mode, body, plain(p.headers))
    if p.message_id == 'go-1':
        ch.basic_ack(m.delivery_tag)
    else:
        ch.basic_reject(m.delivery_tag, requeue=False)
c.close()
`

// TestPython: what we publish another client can read, and the other way round.
func TestPython(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedRabbitMQ(t).Addr()
	c := openURL(t, "amqp://"+addr)
	defer c.Close()
	ctx := t.Context()
	_, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{
		{Name: "python in"}, {Name: "python dead"}, {Name: "python out", DeadLetter: &driver.Route{Key: "python dead"}},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	to := driver.Route{Key: "python out"}
	rs, err := c.Publish(ctx, []driver.Publishing{
		{Route: to, Message: &driver.Message{
			ID: "go-1", Body: []byte("\x00\xff from go"), ContentType: "application/x", TTL: time.Hour,
			Headers: driver.Headers{"n": int64(7), "s": "grüße", "b": true},
		}},
		{Route: to, Message: &driver.Message{ID: "go-2", Body: []byte("reject me"), Headers: driver.Headers{"h": "v"}}},
	})
	if err != nil || rs[0].Err != nil || rs[1].Err != nil {
		t.Fatal(rs, err)
	}
	got := python(t, bothWays, "amqp://guest:guest@"+addr+"/%2F")
	want := " python out go-1 application/x 3600000 2 b'\\x00\\xff from go' [('b', True), ('n', 7), ('s', 'grüße')]\n" +
		" python out go-2 None None 2 b'reject me' [('h', 'v')]\n" //nolint:dupword // it has neither
	if got != want {
		t.Errorf("python got\n%s, want\n%s", got, want)
	}
	receive := func(q string) driver.Delivery {
		t.Helper()
		ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 10, Wait: 10 * time.Second})
		if err != nil || len(ds) != 1 {
			t.Fatalf("Receive from %s: %v %v", q, ds, err)
		}
		return ds[0]
	}
	m := receive("python in").Message
	at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if string(m.Body) != "\x00\xff from python" || m.ID != "py-1" || m.ContentType != "text/plain" || m.CorrelationID != "c" ||
		m.ReplyTo != "r" || m.Type != "t" || m.AppID != "a" || m.Priority != 3 || !m.Timestamp.Equal(at) {
		t.Errorf("from python: %+v", m)
	}
	list, _ := m.Headers["l"].([]any)
	table, _ := m.Headers["d"].(driver.Headers)
	truth, _ := m.Headers["b"].(bool)
	if m.Headers["n"] != int64(7) || m.Headers["s"] != "grüße" || !truth || len(list) != 2 || list[1] != "two" || table["x"] != "y" {
		t.Errorf("headers from python: %#v", m.Headers)
	}
	// What python rejected the broker has dead-lettered, and says why.
	d := receive("python dead")
	h := d.Message.Headers
	if d.Message.ID != "go-2" || h["h"] != "v" || h[driver.HeaderDeathReason] != driver.ReasonRejected || h[driver.HeaderDeathQueue] != "python out" ||
		h[driver.HeaderDeathCount] != int64(1) || h[driver.HeaderOriginalRoute] != "" || h[driver.HeaderOriginalKey] != "python out" {
		t.Errorf("the dead letter of python: %q %v", d.Message.ID, h)
	}
}
