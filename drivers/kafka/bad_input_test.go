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

	"github.com/twmb/franz-go/pkg/kadm"

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

// TestLogin: all ways to log in work over TLS, and whoever does so wrongly is
// denied at once.
func TestLogin(t *testing.T) {
	t.Parallel()
	s, ca := realserver.StartKafkaTLS(t)
	login := url.UserPassword(realserver.KafkaUser, realserver.KafkaPassword).String() + "@"
	mistaken := url.UserPassword(realserver.KafkaUser, "wrong").String() + "@"
	secure := s.Addr() + "?timeout=20s&tls=true&ca_file=" + url.QueryEscape(ca)
	drivertest.Refused(t, queue.OpenConn, 15*time.Second, []drivertest.Wrong{ // far below their own time
		{URL: "kafka://" + mistaken + secure, Want: lease.ErrDenied, Says: realserver.KafkaUser},
		{URL: "kafka://" + mistaken + secure + "&sasl=scram-sha-256", Want: lease.ErrDenied, Says: realserver.KafkaUser},
		{URL: "kafka://" + mistaken + secure + "&sasl=scram-sha-512", Want: lease.ErrDenied, Says: realserver.KafkaUser},
		{URL: "kafka://" + secure, Want: lease.ErrUnavailable, Says: "SASL"},
		{URL: "kafka://" + login + s.Addr() + "?timeout=3s", Want: lease.ErrUnavailable},
		{URL: "kafka://" + login + s.Addr() + "?timeout=20s&tls=true", Want: lease.ErrUnavailable, Says: "certificate"},
	}...)
	for _, way := range []string{saslPlain, saslScram256, saslScram512} {
		b := openBroker(t, "kafka://"+login+secure+"&sasl="+way)
		if err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: way}}}); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if _, err := b.Publish(t.Context(), queue.Route{Key: way}, &queue.Message{Body: []byte(way)}); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		c, err := b.Consumer(t.Context(), way, nil)
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		ds, err := c.Receive(t.Context(), 1)
		if err != nil || string(ds[0].Message.Body) != way {
			t.Fatalf("%s: %v %v", way, ds, err)
		}
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Errorf("%s: %v", way, err)
		}
	}
	guest := url.UserPassword(realserver.KafkaGuest, realserver.KafkaPassword).String() + "@"
	deniedGuest(t, "kafka://"+login+secure, "kafka://"+guest+secure)
}

// deniedGuest: a user who may not make topics is told so, of which, and can use
// those that there are.
func deniedGuest(t *testing.T, owner, guest string) {
	t.Helper()
	ctx := t.Context()
	o := openURL(t, owner)
	defer o.Close()
	if _, err := o.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: "made"}}}, false); err != nil {
		t.Fatal(err)
	}
	rights := kadm.NewACLs().Allow("User:"+realserver.KafkaGuest).AllowHosts("*").Topics("lockkeeper.topology", "made.queue").Groups("made").
		ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
	made, err := o.(*conn).adm.CreateACLs(ctx, rights)
	if err == nil && len(made) > 0 {
		err = made[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	g := openURL(t, guest)
	defer g.Close()
	for name, want := range map[string]error{"made": nil, "missing": lease.ErrDenied} {
		_, err := g.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: name}}}, false)
		if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("declare the queue %q: %v; want %v", name, err, want)
		}
	}
	rs, err := g.Publish(ctx, []driver.Publishing{{Route: driver.Route{Key: "made"}, Message: &driver.Message{Body: []byte("a guest's")}}})
	if err != nil || rs[0].Err != nil {
		t.Errorf("publish: %v %v", rs, err)
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
