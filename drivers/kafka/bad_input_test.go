package kafka

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

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
	addr := realserver.SharedKafka(t).Addr()
	drivertest.Refused(t, queue.OpenConn, 7*time.Second, []drivertest.Wrong{
		{URL: "kafka://127.0.0.1:1?timeout=2s", Want: lease.ErrUnavailable, Says: "refused"},
		{URL: "kafka://" + web.Listener.Addr().String() + "?timeout=2s", Want: lease.ErrUnavailable},
		{URL: "kafka://" + mute.Addr().String() + "?timeout=200ms", Want: lease.ErrUnavailable},
		{URL: "kafka://" + addr + "?timeout=2s&tls=true", Want: lease.ErrUnavailable},
		{URL: "kafka://" + addr + "?unknown=1", Want: lease.ErrInvalid, Says: "unknown"},
		{URL: "kafka://" + addr + "/topic", Want: lease.ErrInvalid, Says: "path"},
		{URL: "kafka://" + addr + "?replication=2&prefix=replicated.", Want: lease.ErrInvalid, Says: "replicated."},
	}...)
	c := openURL(t, "kafka://127.0.0.1:1,"+addr) // one of them is enough
	c.Close()
}

// TestLogin: who logs in wrongly is denied.
func TestLogin(t *testing.T) {
	t.Parallel()
	s := realserver.StartKafkaSASL(t)
	login := url.UserPassword(realserver.KafkaUser, realserver.KafkaPassword).String()
	drivertest.Refused(t, queue.OpenConn, 7*time.Second, []drivertest.Wrong{
		{URL: "kafka://" + realserver.KafkaUser + ":wrong@" + s.Addr() + "?timeout=3s", Want: lease.ErrDenied},
		{URL: "kafka://" + login + "@" + s.Addr() + "?timeout=3s&sasl=scram-sha-256", Want: lease.ErrDenied},
		{URL: "kafka://" + s.Addr() + "?timeout=3s", Want: lease.ErrUnavailable},
	}...)
	c := openURL(t, "kafka://"+login+"@"+s.Addr())
	defer c.Close()
	if _, err := c.Topology(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRefusals: each is an error that names the thing, at once, and a message
// that another user of the client publishes meanwhile gets through.
func TestRefusals(t *testing.T) {
	t.Parallel()
	c := openURL(t, "kafka://"+realserver.SharedKafka(t).Addr())
	defer c.Close()
	ctx := t.Context()
	top := &driver.Topology{
		Queues:    []driver.Queue{{Name: "refusals"}},
		Exchanges: []driver.Exchange{{Name: "refusals", Kind: driver.Direct}},
	}
	if _, err := c.Declare(ctx, top, false); err != nil {
		t.Fatal(err)
	}
	defer forgets(t, c, top)
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
	one := func(q driver.Queue) driver.Topology { return driver.Topology{Queues: []driver.Queue{q}} }
	here := driver.Route{Key: "refusals"}
	for what, r := range map[string]struct {
		err  error
		want error
		says string
	}{
		"another kind of exchange":  {declare(driver.Topology{Exchanges: []driver.Exchange{{Name: "refusals", Kind: driver.Topic}}}), lease.ErrConflict, "refusals"},
		"another lease":             {declare(one(driver.Queue{Name: "refusals", Lease: time.Minute})), lease.ErrConflict, "refusals"},
		"a topic of something else": {declare(driver.Topology{Exchanges: []driver.Exchange{{Name: "refusals.queue", Kind: driver.Topic}}}), lease.ErrConflict, "refusals.queue"},
		"a window of dedup":         {declare(one(driver.Queue{Name: "new", DedupWindow: time.Hour})), lease.ErrUnsupported, "dedup_window"},
		"a stream":                  {declare(one(driver.Queue{Name: "new", Type: driver.Stream})), lease.ErrUnsupported, "type"},
		"priorities":                {declare(one(driver.Queue{Name: "new", MaxPriority: 3})), lease.ErrUnsupported, "max_priority"},
		"an exclusive queue":        {declare(one(driver.Queue{Name: "new", Exclusive: true})), lease.ErrUnsupported, "exclusive"},
		"a long backoff":            {declare(one(driver.Queue{Name: "new", Backoff: driver.Backoff{Max: MaxDelay + 1}})), lease.ErrInvalid, "backoff.max"},
		"an unknown exchange":       {publish(driver.Route{Exchange: "refusals nobody"}, driver.Message{}), lease.ErrNotFound, "refusals nobody"},
		"an unroutable message":     {publish(driver.Route{Exchange: "refusals", Key: "nobody"}, driver.Message{}), driver.ErrUnroutable, ""},
		"a message to nobody":       {publish(driver.Route{Key: "refusals nobody"}, driver.Message{}), driver.ErrUnroutable, ""},
		"a body over the limit":     {publish(here, driver.Message{Body: make([]byte, MaxBody+1)}), lease.ErrInvalid, "body"},
		"a header without a type":   {publish(here, driver.Message{Headers: driver.Headers{"h": struct{}{}}}), lease.ErrInvalid, "headers[h]"},
		"a delay":                   {publish(here, driver.Message{Delay: time.Second}), lease.ErrUnsupported, "delay"},
	} {
		if !errors.Is(r.err, r.want) || !strings.Contains(r.err.Error(), r.says) {
			t.Errorf("%s: %v; want %v that says %q", what, r.err, r.want, r.says)
		}
	}
	if err := publish(here, driver.Message{UserID: "somebody", Body: []byte("goes on")}); err != nil {
		t.Fatal(err)
	}
	ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: "refusals", Consumer: "c", Max: 10})
	if err != nil || len(ds) != 1 || ds[0].Message.UserID != "somebody" {
		t.Errorf("after all that: %+v %v", ds, err)
	}
}
