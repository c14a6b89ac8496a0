package driver

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

func testCaps() *Caps {
	return &Caps{MinLease: time.Second, MaxLease: 24 * time.Hour, MaxBody: MaxBody}
}

// refuses asserts that err, if there is one, says which field breaks which
// rule.
func refuses(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var f *lease.FieldError
	if !errors.Is(err, lease.ErrInvalid) || !errors.As(err, &f) || f.Field == "" || f.Reason == "" {
		t.Fatalf("%#v names no field or no rule", err)
	}
}

// FuzzTopology checks that what Validate accepts it has completed: a second
// Validate changes nothing, and everything is within the limits.
func FuzzTopology(f *testing.F) {
	f.Add("orders", "dead", "", int64(0), int64(0), int64(0), int64(0), 0, "topic", "order.*")
	f.Add("q", "q", "e", int64(time.Second), int64(1), int64(0), int64(time.Hour), 7, "headers", "")
	f.Add("\x00", "\xff", "amq.x", int64(-1), int64(2), int64(1), int64(-1), -1, "", "#")
	f.Fuzz(func(t *testing.T, name, dead, exchange string, ttl, least, most, window int64, limit int, kind, key string) {
		top := &Topology{
			Exchanges: []Exchange{{Name: exchange, Kind: Kind(kind)}},
			Queues: []Queue{
				{Name: name, Backoff: Backoff{Min: time.Duration(least), Max: time.Duration(most)}, DedupWindow: time.Duration(window)},
				{Name: name, Lease: time.Duration(ttl), DeliveryLimit: limit, DeadLetter: &Route{Exchange: exchange, Key: dead}},
			},
			Bindings: []Binding{{Exchange: exchange, Queue: name, Key: key, Args: Headers{key: limit, ArgMatch: dead}}, {Exchange: exchange, Queue: name, Key: key}},
		}
		if len(kind)%2 == 0 {
			top.Exchanges, top.Bindings = nil, nil
		}
		if err := top.Validate(testCaps()); err != nil {
			refuses(t, err)
			return
		}
		for _, q := range top.Queues {
			b := q.Backoff
			if q.Lease < time.Second || q.Lease > 24*time.Hour || b.Min <= 0 || b.Min > b.Max || b.Max > MaxDelay ||
				q.DeliveryLimit < 0 || q.DeliveryLimit > MaxDeliveryLimit || (q.DeliveryLimit > 0) != (q.DeadLetter != nil) ||
				q.DedupWindow < 0 || q.DedupWindow > MaxDedupWindow {
				t.Fatalf("accepted %+v", q)
			}
		}
		again := &Topology{
			Exchanges: append([]Exchange(nil), top.Exchanges...),
			Queues:    append([]Queue(nil), top.Queues...),
			Bindings:  append([]Binding(nil), top.Bindings...),
		}
		if err := again.Validate(testCaps()); err != nil || !reflect.DeepEqual(again, top) {
			t.Fatalf("validated again: %v\n%+v, was\n%+v", err, again, top)
		}
	})
}

// FuzzRequests checks that no request makes Validate panic, and that each
// refusal names its field.
func FuzzRequests(f *testing.F) {
	f.Add("q", "consumer", "text", 1, int64(0), int64(0), uint8(1), uint8(0))
	f.Add("", "", "\xff", -1, int64(-1), int64(1)<<62, uint8(0), uint8(10))
	f.Fuzz(func(t *testing.T, name, id, text string, n int, d, at int64, verb, priority uint8) {
		caps := testCaps()
		r := &ReceiveRequest{Queue: name, Consumer: id, Max: n, MaxBytes: n, Wait: time.Duration(d), Lease: time.Duration(at)}
		if err := r.Validate(caps); err != nil {
			refuses(t, err)
		} else if r.Max < 1 || r.Max > MaxReceive || r.MaxBytes < 1 || r.MaxBytes > MaxReceiveBytes || r.Wait < 0 || r.Wait > MaxWait {
			t.Fatalf("accepted %+v", r)
		}
		s := Settlement{Ref: Ref{Queue: name}, Verb: Verb(verb), Delay: time.Duration(d), Reason: text, TTL: time.Duration(at)}
		refuses(t, ValidateSettlements([]Settlement{s, s}, caps))
		m := &Message{
			ID: id, OrderKey: text, Type: text, Priority: priority, TTL: time.Duration(d), Delay: time.Duration(at),
			Headers: Headers{name: text, id: Headers{text: n}}.Normalize(),
		}
		if at%2 == 0 {
			m.NotBefore = time.Unix(at%(1<<40), 0)
		}
		p := Publishing{Route: Route{Exchange: name, Key: text}, Message: m}
		refuses(t, ValidateBatch([]Publishing{p}))
		refuses(t, ValidateBatch([]Publishing{p, {}}))
		refuses(t, (&StatsRequest{Queue: name, Prefix: id, After: text, Max: n}).Validate())
		refuses(t, (&PeekRequest{Queue: name, Max: n}).Validate())
		refuses(t, (&RedriveRequest{Queue: name, To: &Route{Exchange: id, Key: text}, Max: n}).Validate())
		refuses(t, (&DeleteRequest{Queue: name, Exchange: id}).Validate())
		refuses(t, (&DeleteRequest{Binding: &Binding{Exchange: name, Queue: id, Key: text}}).Validate())
	})
}
