package driver

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// names asserts which field a refusal is about; "" is no refusal.
func names(t *testing.T, what string, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	var f *lease.FieldError
	if !errors.As(err, &f) || f.Field != field {
		t.Errorf("%s: %v, want a refusal of %s", what, err, field)
	}
}

func text(n int) string { return strings.Repeat("x", n) }

func TestMessageAtTheLimits(t *testing.T) {
	for i, c := range []struct {
		m     Message
		field string
	}{
		{Message{ID: text(MaxID), OrderKey: text(MaxOrderKey), Priority: MaxPriority, TTL: MaxDelay, Delay: MaxDelay}, ""},
		{Message{ContentType: text(MaxProperty), AppID: text(MaxProperty)}, ""},
		{Message{NotBefore: time.Unix(0, 0).UTC()}, ""},
		{Message{Body: make([]byte, MaxBody)}, ""},
		{Message{ID: text(MaxID + 1)}, "message.id"},
		{Message{ID: "a\nb"}, "message.id"},
		{Message{OrderKey: text(MaxOrderKey + 1)}, "message.order_key"},
		{Message{ContentType: text(MaxProperty + 1)}, "message.content_type"},
		{Message{ContentEncoding: text(MaxProperty + 1)}, "message.content_encoding"},
		{Message{CorrelationID: text(MaxProperty + 1)}, "message.correlation_id"},
		{Message{ReplyTo: text(MaxProperty + 1)}, "message.reply_to"},
		{Message{Type: text(MaxProperty + 1)}, "message.type"},
		{Message{AppID: text(MaxProperty + 1)}, "message.app_id"},
		{Message{UserID: text(MaxProperty + 1)}, "message.user_id"},
		{Message{Body: make([]byte, MaxBody+1)}, "message.body"},
		{Message{Priority: MaxPriority + 1}, "message.priority"},
		{Message{TTL: MaxDelay + 1}, "message.ttl"},
		{Message{Delay: -1}, "message.delay"},
		{Message{Delay: 1, NotBefore: time.Unix(0, 0)}, "message.delay"},
		{Message{NotBefore: time.Date(2201, 1, 2, 0, 0, 0, 0, time.UTC)}, "message.not_before"},
		{Message{Headers: Headers{"": true}}, "message.headers key"},
	} {
		p := Publishing{Message: &c.m}
		names(t, fmt.Sprint("case ", i), p.Validate(), c.field)
	}
	names(t, "no message", (&Publishing{}).Validate(), "message")
	names(t, "exchange", (&Publishing{Route: Route{Exchange: text(MaxName + 1)}, Message: &Message{}}).Validate(), "route.exchange")
	names(t, "key", (&Publishing{Route: Route{Key: text(MaxKey + 1)}, Message: &Message{}}).Validate(), "route.key")
}

func TestBatchAtTheLimits(t *testing.T) {
	ps := slices.Repeat([]Publishing{{Message: &Message{}}}, MaxBatch+1)
	names(t, "the largest batch", ValidateBatch(ps[:MaxBatch]), "")
	names(t, "one more", ValidateBatch(ps), "messages")
	ps = slices.Repeat([]Publishing{{Message: &Message{Body: make([]byte, MaxBody)}}}, MaxBatchBytes/MaxBody+1)
	names(t, "the most bytes", ValidateBatch(ps[1:]), "")
	names(t, "too many bytes", ValidateBatch(ps), "messages")
	names(t, "the second of two", ValidateBatch([]Publishing{{Message: &Message{}}, {}}), "messages[1].message")
	caps := testCaps()
	ss := slices.Repeat([]Settlement{{Ref: Ref{Queue: "q"}, Verb: Ack}}, MaxBatch+1)
	names(t, "the most settlements", ValidateSettlements(ss[:MaxBatch], caps), "")
	names(t, "one more", ValidateSettlements(ss, caps), "settlements")
	names(t, "the second of two", ValidateSettlements([]Settlement{ss[0], {}}, caps), "settlements[1].verb")
}

func TestHeadersAtTheLimits(t *testing.T) {
	full := Headers{}
	for i := range MaxHeaders {
		full[fmt.Sprint(i)] = true
	}
	over := Headers{"l": []any{}}
	for k := range full {
		over[k] = true
	}
	deep := func(n int) (v any) {
		v = "leaf"
		for range n {
			v = Headers{"d": v}
		}
		return v
	}
	for i, c := range []struct {
		h     Headers
		field string
	}{
		{full, ""},
		{over, "h"},
		{Headers{"k": text(MaxHeaderBytes - 1)}, ""},
		{Headers{"k": []byte(text(MaxHeaderBytes))}, "h"},
		{Headers{"a": deep(MaxHeaderDepth - 1)}, ""},
		{Headers{"a": deep(MaxHeaderDepth)}, "h[a][d][d][d][d]"},
		{Headers{text(MaxKey): int64(1)}, ""},
		{Headers{text(MaxKey + 1): int64(1)}, "h key"},
		{Headers{"f": math.Inf(1)}, "h[f]"},
		{Headers{"f": math.NaN()}, "h[f]"},
		{Headers{"s": "\xff"}, "h[s]"},
		{Headers{"t": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "h[t]"},
		{Headers{"n": nil}, "h[n]"},
		{Headers{"i": 1}, "h[i]"}, // not normalized
		{Headers{"u": uint64(math.MaxUint64)}.Normalize(), "h[u]"},
		{Headers{"l": []any{int64(1), struct{}{}}}, "h[l]"},
	} {
		names(t, fmt.Sprint("case ", i), c.h.Validate("h"), c.field)
	}
}

func TestNormalize(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("east", 3600))
	got := Headers{
		"int": int(1), "int8": int8(2), "int16": int16(3), "int32": int32(4), "uint": uint(5), "uint8": uint8(6),
		"uint16": uint16(7), "uint32": uint32(8), "uint64": uint64(9), "float32": float32(0.5), "time": at,
		"map": map[string]any{"n": 1}, "list": []any{1, map[string]any{}},
	}.Normalize()
	want := Headers{
		"int": int64(1), "int8": int64(2), "int16": int64(3), "int32": int64(4), "uint": int64(5), "uint8": int64(6),
		"uint16": int64(7), "uint32": int64(8), "uint64": int64(9), "float32": 0.5,
		"time": time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
		"map":  Headers{"n": int64(1)}, "list": []any{int64(1), Headers{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
	if keys := (Headers{"b": 1, "a": 1}).Keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("Keys returned %v", keys)
	}
}

func TestRequestsAtTheLimits(t *testing.T) {
	caps := testCaps()
	edge := ReceiveRequest{
		Queue: text(MaxName), Consumer: text(MaxConsumer), Max: MaxReceive, MaxBytes: MaxReceiveBytes, Wait: MaxWait, Lease: caps.MaxLease,
		Ahead: MaxAhead,
	}
	for field, change := range map[string]func(*ReceiveRequest){
		"":          func(*ReceiveRequest) {},
		"queue":     func(r *ReceiveRequest) { r.Queue = "" },
		"consumer":  func(r *ReceiveRequest) { r.Consumer += "x" },
		"max":       func(r *ReceiveRequest) { r.Max++ },
		"max_bytes": func(r *ReceiveRequest) { r.MaxBytes++ },
		"wait":      func(r *ReceiveRequest) { r.Wait++ },
		"lease":     func(r *ReceiveRequest) { r.Lease++ },
		"ahead":     func(r *ReceiveRequest) { r.Ahead++ },
	} {
		r := edge
		change(&r)
		names(t, "receive", r.Validate(caps), field)
	}
	settled := Settlement{Ref: Ref{Queue: "q"}, Verb: Nack, Delay: MaxDelay, Reason: text(MaxReason)}
	for field, change := range map[string]func(*Settlement){
		"":       func(*Settlement) {},
		"verb":   func(s *Settlement) { s.Verb = Extend + 1 },
		"queue":  func(s *Settlement) { s.Ref.Queue = "" },
		"delay":  func(s *Settlement) { s.Delay++ },
		"reason": func(s *Settlement) { s.Reason += "x" },
		"ttl":    func(s *Settlement) { s.Verb, s.TTL = Extend, caps.MinLease-1 },
	} {
		s := settled
		change(&s)
		names(t, "settle", s.Validate(caps), field)
	}
	names(t, "stats", (&StatsRequest{Max: MaxList, Prefix: text(MaxName), After: text(MaxName)}).Validate(), "")
	names(t, "stats", (&StatsRequest{Max: MaxList + 1}).Validate(), "max")
	names(t, "stats", (&StatsRequest{Prefix: text(MaxName + 1)}).Validate(), "prefix")
	names(t, "stats", (&StatsRequest{After: text(MaxName + 1)}).Validate(), "after")
	names(t, "peek", (&PeekRequest{Queue: "q", Max: MaxPeek}).Validate(), "")
	names(t, "peek", (&PeekRequest{Queue: "q", Max: MaxPeek + 1}).Validate(), "max")
	names(t, "redrive", (&RedriveRequest{Queue: "q", Max: MaxRedrive, To: &Route{}}).Validate(), "")
	names(t, "redrive", (&RedriveRequest{Queue: "q", Max: -1}).Validate(), "max")
	names(t, "redrive", (&RedriveRequest{Queue: "q", To: &Route{Key: "\x00"}}).Validate(), "to.key")
	names(t, "delete", (&DeleteRequest{Binding: &Binding{Exchange: "e", Queue: "q"}}).Validate(), "")
	names(t, "delete", (&DeleteRequest{Queue: "q", Exchange: "e"}).Validate(), "delete")
	names(t, "delete", (&DeleteRequest{Exchange: text(MaxName + 1)}).Validate(), "exchange")
	names(t, "delete", (&DeleteRequest{Binding: &Binding{Queue: "q"}}).Validate(), "binding.exchange")
}

func TestTopologyAtTheLimits(t *testing.T) {
	caps := testCaps()
	dead := &Route{Key: "dead"}
	for _, c := range []struct {
		q     Queue
		field string
	}{
		{Queue{Lease: caps.MaxLease, DeadLetter: dead, DeliveryLimit: MaxDeliveryLimit, DedupWindow: MaxDedupWindow}, ""},
		{Queue{Backoff: Backoff{Min: 1, Max: MaxDelay}}, ""},
		{Queue{Lease: caps.MinLease - 1}, "lease"},
		{Queue{Lease: caps.MaxLease + 1}, "lease"},
		{Queue{DeadLetter: dead, DeliveryLimit: MaxDeliveryLimit + 1}, "delivery_limit"},
		{Queue{DeliveryLimit: 1}, "delivery_limit"},
		{Queue{DeadLetter: &Route{}}, "dead_letter"},
		{Queue{DeadLetter: &Route{Key: "q"}}, "dead_letter"},
		{Queue{DeadLetter: &Route{Exchange: text(MaxName + 1)}}, "dead_letter.exchange"},
		{Queue{Backoff: Backoff{Max: MaxDelay + 1}}, "backoff.max"},
		{Queue{Backoff: Backoff{Min: 2, Max: 1}}, "backoff.min"},
		{Queue{DedupWindow: MaxDedupWindow + 1}, "dedup_window"},
	} {
		c.q.Name = "q"
		field := c.field
		if field != "" {
			field = "queues[0]." + field
		}
		names(t, fmt.Sprintf("%+v", c.q), (&Topology{Queues: []Queue{c.q}}).Validate(caps), field)
	}
	for field, b := range map[string]Binding{
		"":                          {Exchange: "e", Queue: "q", Args: Headers{ArgMatch: "any", "n": 1}},
		"bindings[0].exchange":      {Queue: "q"},
		"bindings[0].queue":         {Exchange: "e"},
		"bindings[0].key":           {Exchange: "e", Queue: "q", Key: text(MaxKey + 1)},
		"bindings[0].args[x-match]": {Exchange: "e", Queue: "q", Args: Headers{ArgMatch: "some"}},
		"bindings[0].args[c]":       {Exchange: "e", Queue: "q", Args: Headers{"c": struct{}{}}},
	} {
		names(t, fmt.Sprintf("%+v", b), (&Topology{Bindings: []Binding{b}}).Validate(caps), field)
	}
	names(t, "a reserved name", (&Topology{Exchanges: []Exchange{{Name: "amq.direct", Kind: Direct}}}).Validate(caps), "exchanges[0].name")
	names(t, "an unknown kind", (&Topology{Exchanges: []Exchange{{Name: "e"}}}).Validate(caps), "exchanges[0].kind")
	names(t, "too many parts", (&Topology{Queues: make([]Queue, MaxDeclare+1)}).Validate(caps), "topology")
	top := &Topology{Queues: []Queue{{Name: "a"}, {Name: "b", DeadLetter: dead, Backoff: Backoff{Max: 1}}, {Name: "c", Backoff: Backoff{Min: time.Hour}}}}
	names(t, "defaults", top.Validate(caps), "")
	want := []Queue{
		{Name: "a", Lease: DefaultLease, Backoff: Backoff{Min: DefaultBackoffMin, Max: DefaultBackoffMax}},
		{Name: "b", Lease: DefaultLease, DeadLetter: dead, DeliveryLimit: DefaultDeliveryLimit, Backoff: Backoff{Min: 1, Max: 1}},
		{Name: "c", Lease: DefaultLease, Backoff: Backoff{Min: time.Hour, Max: time.Hour}},
	}
	if !reflect.DeepEqual(top.Queues, want) {
		t.Errorf("got  %+v\nwant %+v", top.Queues, want)
	}
}
