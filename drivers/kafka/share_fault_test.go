package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// shareURL is of work queues, each test with its own topology. One partition is
// all clients' at once.
func shareURL(s *realserver.Server, name string) string {
	return "kafka://" + s.Addr() + "?queue_type=share&partitions=1&prefix=" + name + "."
}

// declareShare declares a queue of the test, with its dead letters.
func declareShare(t *testing.T, c driver.Conn, name string, limit int) (q, dead string) {
	t.Helper()
	q, dead = name+" q", name+" dead"
	top := &driver.Topology{Queues: []driver.Queue{
		{Name: dead}, {Name: q, DeliveryLimit: limit, DeadLetter: &driver.Route{Key: dead}, Backoff: driver.Backoff{Min: 1, Max: 1}},
	}}
	if _, err := c.Declare(t.Context(), top, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range top.Queues {
			if err := c.Delete(context.Background(), &driver.DeleteRequest{Queue: top.Queues[i].Name}); err != nil {
				t.Error(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return q, dead
}

func put(t *testing.T, c driver.Conn, q string, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		rs, err := c.Publish(t.Context(), []driver.Publishing{{Route: driver.Route{Key: q}, Message: &driver.Message{Body: []byte(b)}}})
		if err != nil || rs[0].Err != nil {
			t.Fatalf("Publish: %v %v", rs, err)
		}
	}
}

// get receives n messages, by their bodies.
func get(t *testing.T, c driver.Conn, q string, n int) map[string]driver.Delivery {
	t.Helper()
	got := map[string]driver.Delivery{}
	for end := time.Now().Add(time.Minute); len(got) < n; {
		ds, err := c.Receive(t.Context(), &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: n - len(got), Wait: 10 * time.Second})
		if err != nil || time.Now().After(end) {
			t.Fatalf("Receive: %d of %d messages, %v", len(got), n, err)
		}
		for _, d := range ds {
			got[string(d.Message.Body)] = d
		}
	}
	return got
}

func settled(t *testing.T, c driver.Conn, ss ...driver.Settlement) []driver.Outcome {
	t.Helper()
	out, err := c.Settle(t.Context(), ss)
	if err != nil {
		t.Fatalf("Settle: %v", err)
	}
	return out
}

// TestShareLockOver: what another client got when the broker's lock had run out
// cannot be settled by the first any more; the broker refuses it, and does what
// else is in the same request.
func TestShareLockOver(t *testing.T) {
	t.Parallel()
	s := realserver.SharedKafka(t)
	first, second := openURL(t, shareURL(s, "lockover")), openURL(t, shareURL(s, "lockover"))
	defer second.Close()
	q, _ := declareShare(t, first, "lock over", 9)
	setLock(t, first.(*conn), q, 10*time.Second) // longer than a machine stands still
	put(t, first, q, "a", "b", "c", "d", "e", "f")
	ds := get(t, first, q, 6)
	stale := []string{"a", "b", "c", "d"} // one for each verb
	source := first.(*conn).sources[q]
	source.mu.Lock()
	for _, b := range stale { // as for a client that was stopped
		e := source.held[ds[b].Token]
		e.renewing, e.lock = true, time.Now().Add(time.Hour)
	}
	source.mu.Unlock()
	again := get(t, second, q, len(stale))
	for _, b := range stale {
		if again[b].Attempt != 2 {
			t.Errorf("the other got %+v", again[b])
		}
	}
	out := settled(t, first,
		driver.Settlement{Ref: ds["a"].Ref, Verb: driver.Ack}, driver.Settlement{Ref: ds["b"].Ref, Verb: driver.Nack},
		driver.Settlement{Ref: ds["c"].Ref, Verb: driver.Reject}, driver.Settlement{Ref: ds["d"].Ref, Verb: driver.Extend},
		driver.Settlement{Ref: ds["e"].Ref, Verb: driver.Ack}, driver.Settlement{Ref: ds["f"].Ref, Verb: driver.Extend})
	for i, o := range out {
		if isStale := i < len(stale); isStale != errors.Is(o.Err, lease.ErrNotHeld) || !isStale && o.Err != nil {
			t.Errorf("outcome %d: %v", i, o.Err)
		}
	}
	for _, b := range stale {
		if o := settled(t, second, driver.Settlement{Ref: again[b].Ref, Verb: driver.Ack}); o[0].Err != nil {
			t.Errorf("ack of %s by who has it: %v", b, o[0].Err)
		}
	}
	if o := settled(t, first, driver.Settlement{Ref: ds["f"].Ref, Verb: driver.Ack}); o[0].Err != nil {
		t.Errorf("ack of what was renewed: %v", o[0].Err)
	}
}

// setLock sets how long the broker locks messages of a queue.
func setLock(t *testing.T, c *conn, q string, d time.Duration) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r, cfg := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	cfg.Name, cfg.Value = settingLock, kmsg.StringPtr(fmt.Sprint(d.Milliseconds()))
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, groupName(q, c.record.state().queues[q].born)
	r.Configs = append(r.Configs, cfg)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), c.cl)
	if err != nil || resp.Resources[0].ErrorCode != 0 {
		t.Fatalf("set the lock of %q: %v %+v", q, err, resp)
	}
}

// TestSharePoison: attempts are counted over clients, also past the number of
// deliveries after which the broker forgets a message, and after exactly the limit
// it is a dead letter.
func TestSharePoison(t *testing.T) {
	t.Parallel()
	const limit = 12
	s := realserver.SharedKafka(t)
	first, second := openURL(t, shareURL(s, "poison")), openURL(t, shareURL(s, "poison"))
	q, dead := declareShare(t, first, "poison", limit)
	put(t, first, q, "bad")
	for attempt := 1; attempt <= limit; attempt++ {
		c := second
		if attempt > limit/2 {
			c = first
			if attempt == limit/2+1 {
				if err := second.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		d := get(t, c, q, 1)["bad"]
		if d.Attempt != attempt {
			t.Fatalf("delivery %d is attempt %d", attempt, d.Attempt)
		}
		o := settled(t, c, driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Reason: "bad"})
		if o[0].Err != nil || o[0].DeadLettered != (attempt == limit) {
			t.Fatalf("after attempt %d: %+v", attempt, o[0])
		}
	}
	d := get(t, first, dead, 1)["bad"]
	if h := d.Message.Headers; h[driver.HeaderDeathAttempts] != int64(limit) || h[driver.HeaderDeathReason] != driver.ReasonDeliveryLimit || h[driver.HeaderOriginalKey] != q {
		t.Errorf("the dead letter has the headers %v", h)
	}
	if o := settled(t, first, driver.Settlement{Ref: d.Ref, Verb: driver.Ack}); o[0].Err != nil {
		t.Error(o[0].Err)
	}
}

// TestShareClientGone: what a client had that is gone, with or without a word,
// comes to another, though it was locked for a minute.
func TestShareClientGone(t *testing.T) {
	t.Parallel()
	s := realserver.SharedKafka(t)
	keeper := openURL(t, shareURL(s, "gone"))
	q, _ := declareShare(t, keeper, "gone", 9)
	for what, end := range map[string]func(c driver.Conn){
		"closed": func(driver.Conn) {},
		"killed": func(c driver.Conn) { c.(*conn).sources[q].cl.Close() }, // its connections are lost
	} {
		c := openURL(t, shareURL(s, "gone"))
		put(t, keeper, q, what)
		d := get(t, c, q, 1)[what]
		end(c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		began := time.Now()
		again := get(t, keeper, q, 1)[what]
		t.Logf("%s: came again after %v as attempt %d", what, time.Since(began), again.Attempt)
		if string(again.Message.Body) != what || again.Attempt > 2 {
			t.Errorf("%s: first %+v, then %+v", what, d, again)
		}
		if o := settled(t, keeper, driver.Settlement{Ref: again.Ref, Verb: driver.Ack}); o[0].Err != nil {
			t.Error(o[0].Err)
		}
	}
}

// TestShareBroker kills the broker while messages are published and handled, and
// starts it again; then it turns share groups off there, as on an old broker.
func TestShareBroker(t *testing.T) {
	t.Parallel()
	s := realserver.StartKafka(t)
	url := "kafka://" + s.Addr() + "?queue_type=share"
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "killed")
	tr.free = true
	tr.run(pub, func(context.Context) {
		for range (times(t) + 1) / 2 { // once by default: a start takes its time
			tr.progress(200)
			s.Kill(t)
			s.Start(t)
		}
		tr.progress(100)
	}, sub)
	_, _ = pub.Close(), sub.Close() // before share groups are turned off
	tooOld(t, url)
}

func tooOld(t *testing.T, url string) {
	t.Helper()
	c := openURL(t, url)
	defer c.Close()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType, f.AllowDowngrade = "share.version", 0, 2, true
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(t.Context(), c.(*conn).cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatalf("turn share groups off: %v", err)
	}
	for end := time.Now().Add(time.Minute); ; { // the broker hears of it
		_, err = c.Declare(t.Context(), &driver.Topology{Queues: []driver.Queue{{Name: "new"}}}, true)
		if err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a broker without share groups took a queue")
		}
	}
	if !errors.Is(err, lease.ErrUnsupported) {
		t.Errorf("Declare on a broker without share groups: %v", err)
	}
	t.Log(err)
}

// TestShareNeeds: what brokers answer that have no share groups, or ones that
// cannot renew.
func TestShareNeeds(t *testing.T) {
	t.Parallel()
	answer := func(level int16, versions ...int16) *kmsg.ApiVersionsResponse {
		r := kmsg.NewPtrApiVersionsResponse()
		for i, v := range versions {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = shareNeeds[i].key.Int16(), v
			r.ApiKeys = append(r.ApiKeys, k)
		}
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MaxVersionLevel = "share.version", level
		r.FinalizedFeatures = append(r.FinalizedFeatures, f)
		return r
	}
	if err := checkShare(1, answer(1, 1, 2, 2)); err != nil {
		t.Errorf("Kafka 4.2: %v", err)
	}
	for what, r := range map[string]*kmsg.ApiVersionsResponse{
		"Kafka 3.9": answer(0), "Kafka 4.1": answer(1, 1, 1, 1), "turned off": answer(0, 1, 2, 2),
	} {
		if err := checkShare(1, r); !errors.Is(err, lease.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestShareOtherType: a queue stays what it was declared as.
func TestShareOtherType(t *testing.T) {
	t.Parallel()
	s := realserver.SharedKafka(t)
	c, other := openURL(t, shareURL(s, "othertype")), openURL(t, "kafka://"+s.Addr()+"?prefix=othertype.")
	defer other.Close()
	q, _ := declareShare(t, c, "other type", 0)
	if _, err := other.Declare(t.Context(), &driver.Topology{Queues: []driver.Queue{{Name: q}}}, false); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("a queue of the other type: %v", err)
	}
	put(t, other, q, "a")
	d := get(t, other, q, 1)["a"]
	if o := settled(t, other, driver.Settlement{Ref: d.Ref, Verb: driver.Extend, TTL: MaxShareLease + 1}); !errors.Is(o[0].Err, lease.ErrInvalid) {
		t.Errorf("a lease longer than the broker's lock: %+v", o)
	}
	if o := settled(t, other, driver.Settlement{Ref: d.Ref, Verb: driver.Ack}); o[0].Err != nil {
		t.Error(o[0].Err)
	}
}
