package rabbitmq

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestWrongServer: what cannot work is a clear error, in bounded time.
func TestWrongServer(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	addr := realserver.SharedRabbitMQ(t).Addr()
	drivertest.Refused(t, queue.OpenConn, 7*time.Second, []drivertest.Wrong{
		{URL: "amqp://127.0.0.1:1", Want: lease.ErrUnavailable, Says: "refused"},
		{URL: "amqp://" + web.Listener.Addr().String() + "?timeout=2s", Want: lease.ErrUnavailable},
		{URL: "amqp://" + mute.Addr().String() + "?timeout=200ms", Want: lease.ErrUnavailable},
		{URL: "amqps://" + addr + "?timeout=2s", Want: lease.ErrUnavailable},
		{URL: "amqp://guest:wrong@" + addr, Want: lease.ErrDenied, Says: "password"},
		{URL: "amqp://nobody:x@" + addr, Want: lease.ErrDenied, Says: "password"},
		{URL: "amqp://" + addr + "/nowhere", Want: lease.ErrNotFound, Says: "nowhere"},
		{URL: "amqp://" + addr + "?unknown=1", Want: lease.ErrInvalid, Says: "unknown"},
		{URL: "amqp://" + addr + "/a/b", Want: lease.ErrInvalid, Says: "virtual host"},
	}...)
	c := openURL(t, "amqp://127.0.0.1:1,"+addr) // one of them is enough
	c.Close()
}

// TestRefusals: each is an error that names the thing, at once, and a message
// that another user of the client publishes meanwhile gets through.
func TestRefusals(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedRabbitMQ(t).Addr()
	raw, err := amqp.Dial("amqp://guest:guest@" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ch, err := raw.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("refusals other", true, false, false, false, amqp.Table{"x-queue-type": "classic"}); err != nil {
		t.Fatal(err)
	}
	if err := ch.ExchangeDeclare("refusals other", "direct", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c := openURL(t, "amqp://"+addr)
	defer c.Close()
	ctx := t.Context()
	if _, err := c.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: "refusals"}}}, false); err != nil {
		t.Fatal(err)
	}
	publish := func(r driver.Route, m driver.Message) error {
		rs, err := c.Publish(ctx, []driver.Publishing{{Route: r, Message: &m, Mandatory: true}})
		if err == nil {
			err = rs[0].Err
		}
		return err
	}
	declare := func(t driver.Topology) error {
		_, err := c.Declare(ctx, &t, false)
		return err
	}
	here := driver.Route{Key: "refusals"}
	goOn := others(t, c)
	for what, r := range map[string]struct {
		err  error
		want error
		says string
	}{
		"another type of queue":    {declare(driver.Topology{Queues: []driver.Queue{{Name: "refusals other"}}}), lease.ErrConflict, "refusals other"},
		"another kind of exchange": {declare(driver.Topology{Exchanges: []driver.Exchange{{Name: "refusals other", Kind: driver.Topic}}}), lease.ErrConflict, "refusals other"},
		"another lease":            {declare(driver.Topology{Queues: []driver.Queue{{Name: "refusals", Lease: time.Minute}}}), lease.ErrConflict, "refusals"},
		"priorities of a quorum":   {declare(driver.Topology{Queues: []driver.Queue{{Name: "new", MaxPriority: 3}}}), lease.ErrUnsupported, "max_priority"},
		"bounds":                   {declare(driver.Topology{Queues: []driver.Queue{{Name: "new", MaxLength: 3}}}), lease.ErrUnsupported, "in flight"},
		"an exclusive queue":       {declare(driver.Topology{Queues: []driver.Queue{{Name: "new", Exclusive: true}}}), lease.ErrUnsupported, "one connection"},
		"dedup":                    {declare(driver.Topology{Queues: []driver.Queue{{Name: "new", DedupWindow: time.Hour}}}), lease.ErrUnsupported, "dedup_window"},
		"a stream":                 {declare(driver.Topology{Queues: []driver.Queue{{Name: "new", Type: driver.Stream}}}), lease.ErrUnsupported, "type"},
		"an unknown exchange":      {publish(driver.Route{Exchange: "refusals nobody"}, driver.Message{}), lease.ErrNotFound, "refusals nobody"},
		"an unroutable message":    {publish(driver.Route{Key: "refusals nobody"}, driver.Message{}), driver.ErrUnroutable, "refusals nobody"},
		"a body over the limit":    {publish(here, driver.Message{Body: make([]byte, driver.MaxBody+1)}), lease.ErrInvalid, "body"},
		"a header without a type":  {publish(here, driver.Message{Headers: driver.Headers{"h": struct{}{}}}), lease.ErrInvalid, "headers[h]"},
		"an order key":             {publish(here, driver.Message{OrderKey: "k"}), lease.ErrUnsupported, "order key"},
		"a delay of an exchange":   {publish(driver.Route{Exchange: "refusals other", Key: "k"}, driver.Message{Delay: time.Second}), lease.ErrUnsupported, "refusals other"},
		"a delay to nobody":        {publish(driver.Route{Key: "refusals nobody"}, driver.Message{Delay: time.Second}), driver.ErrUnroutable, "refusals nobody"},
		"a delay of a year":        {publish(here, driver.Message{Delay: driver.MaxDelay}), lease.ErrInvalid, "delay"},
	} {
		if !errors.Is(r.err, r.want) || !strings.Contains(r.err.Error(), r.says) {
			t.Errorf("%s: %v; want %v that says %q", what, r.err, r.want, r.says)
		}
	}
	goOn()
	if err := publish(here, driver.Message{UserID: "somebody else", Body: []byte("goes on")}); err != nil {
		t.Fatal(err)
	}
	ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: "refusals", Consumer: "c", Max: 10})
	if err != nil || len(ds) != 1 || ds[0].Message.UserID != "somebody else" {
		t.Fatalf("after all that: %+v %v", ds, err)
	}
	out, err := c.Settle(ctx, []driver.Settlement{{Ref: ds[0].Ref, Verb: driver.Ack}})
	if err != nil || out[0].Err != nil {
		t.Errorf("Settle: %v %v", out, err)
	}
}

// others publishes over a client until the func that it returns is called, and
// asserts that all of it is confirmed.
func others(t *testing.T, c driver.Conn) (end func()) {
	t.Helper()
	const q = "refusals others"
	if _, err := c.Declare(t.Context(), &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; !isClosed(stop) || n == 0; n++ {
			rs, err := c.Publish(t.Context(), []driver.Publishing{{Route: driver.Route{Key: q}, Message: &driver.Message{}, Mandatory: true}})
			if err != nil || rs[0].Err != nil {
				t.Errorf("message %d of another user: %v %v", n, rs, err)
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// TestExchangeDeleted: a message to an exchange that somebody has deleted behind
// the client's back fails, and those around it do not.
func TestExchangeDeleted(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedRabbitMQ(t).Addr()
	c, other := openURL(t, "amqp://"+addr), openURL(t, "amqp://"+addr)
	defer c.Close()
	defer other.Close()
	ctx := t.Context()
	top := driver.Topology{
		Exchanges: []driver.Exchange{{Name: "deleted exchange", Kind: driver.Fanout}},
		Queues:    []driver.Queue{{Name: "deleted exchange"}},
		Bindings:  []driver.Binding{{Exchange: "deleted exchange", Queue: "deleted exchange"}},
	}
	if _, err := c.Declare(ctx, &top, false); err != nil {
		t.Fatal(err)
	}
	if err := other.Delete(ctx, &driver.DeleteRequest{Exchange: "deleted exchange"}); err != nil {
		t.Fatal(err)
	}
	plain := driver.Route{Key: "deleted exchange"}
	rs, err := c.Publish(ctx, []driver.Publishing{
		{Route: plain, Message: &driver.Message{ID: "1"}},
		{Route: driver.Route{Exchange: "deleted exchange"}, Message: &driver.Message{ID: "2"}},
		{Route: plain, Message: &driver.Message{ID: "3"}},
	})
	if err != nil || rs[0].Err != nil || !errors.Is(rs[1].Err, lease.ErrNotFound) || rs[2].Err != nil {
		t.Errorf("receipts %+v, %v; want the second not found", rs, err)
	}
}

// TestForeignQueue: a queue that another client declared can be used.
func TestForeignQueue(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedRabbitMQ(t).Addr()
	raw, err := amqp.Dial("amqp://guest:guest@" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ch, err := raw.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("foreign", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	err = ch.Publish("", "foreign", false, false, amqp.Publishing{Body: []byte("x"), Headers: amqp.Table{"small": int8(1), "nothing": nil, "f": float32(0.5)}})
	if err != nil {
		t.Fatal(err)
	}
	c := openURL(t, "amqp://"+addr)
	defer c.Close()
	for attempt := 1; attempt <= 3; attempt++ { // a classic queue counts nothing by itself
		ds, err := c.Receive(t.Context(), &driver.ReceiveRequest{Queue: "foreign", Consumer: "c", Max: 1, Wait: 10 * time.Second})
		if err != nil || len(ds) != 1 {
			t.Fatalf("Receive: %v %v", ds, err)
		}
		d := ds[0]
		if string(d.Message.Body) != "x" || d.Attempt != attempt || d.Message.Headers["small"] != int64(1) || d.Message.Headers["f"] != 0.5 {
			t.Errorf("attempt %d is %+v with %+v", attempt, d, d.Message)
		}
		out, err := c.Settle(t.Context(), []driver.Settlement{{Ref: d.Ref, Verb: driver.Nack}})
		if err != nil || out[0].Err != nil {
			t.Fatalf("Settle: %v %v", out, err)
		}
	}
}

// TestRefusedByQueue: what a full queue of another client refuses is told to its
// publisher, soon, and others go on.
func TestRefusedByQueue(t *testing.T) {
	t.Parallel()
	addr := realserver.SharedRabbitMQ(t).Addr()
	raw, err := amqp.Dial("amqp://guest:guest@" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ch, err := raw.Channel()
	if err != nil {
		t.Fatal(err)
	}
	full := amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"}
	if _, err := ch.QueueDeclare("refused full", true, false, false, false, full); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("refused other", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	c := openURL(t, "amqp://"+addr)
	defer c.Close()
	to := func(q, id string) driver.Publishing {
		return driver.Publishing{Route: driver.Route{Key: q}, Message: &driver.Message{ID: id}, Mandatory: true}
	}
	began := time.Now()
	publish := func(q, id string) error {
		t.Helper()
		rs, err := c.Publish(t.Context(), []driver.Publishing{to(q, id)})
		if err != nil {
			t.Fatal(err)
		}
		return rs[0].Err
	}
	for i := range 3 { // a queue may take a little more than its bound
		err = publish("refused full", strconv.Itoa(i+1))
	}
	if !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a full queue: %v", err)
	}
	// What is behind a refused one in its batch is not there before it.
	rs, err := c.Publish(t.Context(), []driver.Publishing{to("refused full", "4"), to("refused other", "2"), to("refused full", "5")})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(rs[0].Err, lease.ErrUnknown) || rs[1].Err != nil || rs[2].Err == nil || !strings.Contains(rs[2].Err.Error(), "before it was refused") {
		t.Errorf("receipts %+v", rs)
	}
	if err := publish("refused other", "3"); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("that took %v", took)
	}
	for q, want := range map[string]string{"refused full": "1", "refused other": "2"} {
		ds, err := c.Receive(t.Context(), &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 1})
		if err != nil || len(ds) != 1 || ds[0].Message.ID != want {
			t.Errorf("from %s came %+v, %v", q, ds, err)
		}
	}
}
