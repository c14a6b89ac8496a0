package queuetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// suite is what one check works with.
type suite struct {
	*testing.T
	h      Harness
	ctx    context.Context
	conn   driver.Conn
	caps   driver.Caps
	unit   time.Duration // of a short lease
	prefix string        // of all names of this check
	made   driver.Topology
}

func newSuite(t *testing.T, h Harness) *suite {
	t.Helper()
	s := &suite{T: t, h: h, prefix: rand.Text()[:10] + "."}
	ctx, cancel := context.WithTimeout(context.Background(), 10*h.Patience)
	t.Cleanup(cancel)
	s.ctx = ctx
	s.conn = s.open()
	s.caps = s.conn.Caps()
	if s.unit = h.Lease; s.unit == 0 {
		s.unit = max(500*time.Millisecond, s.caps.MinLease)
	}
	t.Cleanup(s.tidy)
	return s
}

// open opens a connection that is closed at the end of the check.
func (s *suite) open() driver.Conn {
	s.Helper()
	c := s.h.Open(s.T)
	s.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	return c
}

// restart restarts the backend and connects anew.
func (s *suite) restart() {
	s.Helper()
	s.h.Restart(s.T)
	s.conn = s.open()
}

// tidy deletes what the check made, unless it did so itself.
func (s *suite) tidy() {
	c := s.open()
	ctx, cancel := context.WithTimeout(context.Background(), s.h.Patience)
	defer cancel()
	gone := func(r driver.DeleteRequest) {
		if err := c.Delete(ctx, &r); err != nil && !errors.Is(err, lease.ErrNotFound) {
			s.Errorf("Delete of %s%s: %v", r.Queue, r.Exchange, err)
		}
	}
	for _, q := range s.made.Queues {
		gone(driver.DeleteRequest{Queue: q.Name})
	}
	for left := s.made.Exchanges; len(left) > 0; { // alternates go after those that have them
		rest := slices.DeleteFunc(slices.Clone(left), func(e driver.Exchange) bool {
			needed := slices.ContainsFunc(left, func(x driver.Exchange) bool { return x.Alternate == e.Name })
			if !needed {
				gone(driver.DeleteRequest{Exchange: e.Name})
			}
			return !needed
		})
		if len(rest) == len(left) {
			break // a circle, which was refused
		}
		left = rest
	}
}

// name makes a name of this check's own.
func (s *suite) name(n string) string { return s.prefix + n }

// declare declares, and deletes at the end.
func (s *suite) declare(t driver.Topology) []driver.Change {
	s.Helper()
	s.made.Queues = append(s.made.Queues, t.Queues...)
	s.made.Exchanges = append(s.made.Exchanges, t.Exchanges...)
	changes, err := s.conn.Declare(s.ctx, &t, false)
	s.must(err, "Declare")
	return changes
}

// queue declares a queue and returns its whole name. A short backoff lets
// failed messages come back at once.
func (s *suite) queue(n string, change ...func(*driver.Queue)) string {
	s.Helper()
	q := driver.Queue{Name: s.name(n), Lease: max(time.Minute, s.caps.MinLease), Backoff: instantly}
	for _, c := range change {
		c(&q)
	}
	s.declare(driver.Topology{Queues: []driver.Queue{q}})
	return q.Name
}

// instantly is as good as no backoff. (A zero Backoff means the default.)
var instantly = driver.Backoff{Min: time.Millisecond, Max: time.Millisecond}

func to(q string) driver.Route { return driver.Route{Key: q} }

func body(s string) *driver.Message { return &driver.Message{Body: []byte(s)} }

// send publishes and returns the receipts, whatever is in them.
func (s *suite) send(mandatory bool, r driver.Route, ms ...*driver.Message) []driver.Receipt {
	s.Helper()
	ps := make([]driver.Publishing, len(ms))
	for i, m := range ms {
		ps[i] = driver.Publishing{Route: r, Message: m, Mandatory: mandatory}
	}
	rs, err := s.conn.Publish(s.ctx, ps)
	s.must(err, "Publish")
	if len(rs) != len(ps) {
		s.Fatalf("Publish of %d messages returned %d receipts", len(ps), len(rs))
	}
	return rs
}

// publish publishes what must be stored.
func (s *suite) publish(r driver.Route, ms ...*driver.Message) []driver.Receipt {
	s.Helper()
	rs := s.send(s.caps.Mandatory, r, ms...)
	for i := range rs {
		s.must(rs[i].Err, fmt.Sprintf("Publish: receipt %d", i))
		if rs[i].Durability != s.caps.Durability {
			s.Errorf("receipt %d says %q, Caps say %q", i, rs[i].Durability, s.caps.Durability)
		}
	}
	return rs
}

// bodies publishes messages with these bodies.
func (s *suite) bodies(r driver.Route, bs ...string) {
	s.Helper()
	ms := make([]*driver.Message, len(bs))
	for i, b := range bs {
		ms[i] = body(b)
	}
	s.publish(r, ms...)
}

func (s *suite) request(q string, most int) driver.ReceiveRequest {
	return driver.ReceiveRequest{Queue: q, Consumer: "suite", Max: most}
}

func (s *suite) fetch(r driver.ReceiveRequest) []driver.Delivery {
	s.Helper()
	ds, err := s.conn.Receive(s.ctx, &r)
	s.must(err, "Receive")
	return ds
}

// receive waits until it has n deliveries.
func (s *suite) receive(q string, n int) []driver.Delivery {
	s.Helper()
	return s.receiveFor(q, n, 0)
}

// receiveFor does so with a lease of ttl.
func (s *suite) receiveFor(q string, n int, ttl time.Duration) []driver.Delivery {
	s.Helper()
	return s.collect(driver.ReceiveRequest{Queue: q, Consumer: "suite", Lease: ttl}, n)
}

// receiveMany is receive for all that is in q: it reads ahead, for some backends
// need a round trip for each message otherwise.
func (s *suite) receiveMany(q string, n int) []driver.Delivery {
	s.Helper()
	return s.collect(driver.ReceiveRequest{Queue: q, Consumer: "suite", Ahead: n}, n)
}

func (s *suite) collect(r driver.ReceiveRequest, n int) []driver.Delivery {
	s.Helper()
	var all []driver.Delivery
	end := time.Now().Add(s.h.Patience)
	for len(all) < n {
		left := time.Until(end)
		if left <= 0 {
			s.Fatalf("got %d of %d messages from %s in %v", len(all), n, r.Queue, s.h.Patience)
		}
		r.Max, r.Wait = min(n-len(all), driver.MaxReceive), left
		all = append(all, s.fetch(r)...)
	}
	return all
}

// one waits for one delivery with this body.
func (s *suite) one(q, want string) driver.Delivery {
	s.Helper()
	d := s.receive(q, 1)[0]
	if string(d.Message.Body) != want {
		s.Fatalf("got message %q from %s, want %q", d.Message.Body, q, want)
	}
	return d
}

// none asserts that there is nothing to receive now.
func (s *suite) none(q string) {
	s.Helper()
	if ds := s.fetch(s.request(q, driver.MaxReceive)); len(ds) > 0 {
		s.Fatalf("got %d messages from %s, want none; the first is %q, attempt %d",
			len(ds), q, ds[0].Message.Body, ds[0].Attempt)
	}
}

// noneBefore asserts that there is nothing to receive now, if that is known
// before the time at which there may be.
func (s *suite) noneBefore(q string, at time.Time) {
	s.Helper()
	ds := s.fetch(s.request(q, driver.MaxReceive))
	if len(ds) > 0 && time.Now().Before(at) {
		s.Fatalf("got %d messages from %s too early; the first is %q", len(ds), q, ds[0].Message.Body)
	}
	for _, d := range ds {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	}
}

// want asserts that exactly these bodies can be received, in this order, and
// acks them.
func (s *suite) want(q string, bodies ...string) []driver.Delivery {
	s.Helper()
	ds := s.receive(q, len(bodies))
	for i, d := range ds {
		if string(d.Message.Body) != bodies[i] {
			s.Fatalf("message %d of %s is %q, want %q", i, q, d.Message.Body, bodies[i])
		}
	}
	s.none(q)
	for _, d := range ds {
		s.ack(d)
	}
	return ds
}

func (s *suite) try(st driver.Settlement) driver.Outcome {
	s.Helper()
	out, err := s.conn.Settle(s.ctx, []driver.Settlement{st})
	s.must(err, "Settle")
	if len(out) != 1 {
		s.Fatalf("Settle of one returned %d outcomes", len(out))
	}
	return out[0]
}

func (s *suite) settle(st driver.Settlement) driver.Outcome {
	s.Helper()
	out := s.try(st)
	s.must(out.Err, "Settle: outcome")
	return out
}

func (s *suite) ack(d driver.Delivery) {
	s.Helper()
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Ack})
}

// refused asserts that each verb on a delivery that is not held is refused.
func (s *suite) refused(ref driver.Ref) {
	s.Helper()
	if !s.caps.DeliveryFence {
		return // its Caps say that it cannot tell: it may believe it, and settle what another holds
	}
	for verb := driver.Ack; verb <= driver.Extend; verb++ {
		if out := s.try(driver.Settlement{Ref: ref, Verb: verb}); !errors.Is(out.Err, lease.ErrNotHeld) {
			s.Errorf("verb %d on a delivery that is not held: %v, want ErrNotHeld", verb, out.Err)
		}
	}
}

func (s *suite) must(err error, what string) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// is asserts the class of an error.
func (s *suite) is(err, want error, what string) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// field asserts that err is a FieldError, which names a field and a rule.
func (s *suite) field(err error, what string) {
	s.Helper()
	var f *lease.FieldError
	if !errors.As(err, &f) {
		if !errors.Is(err, lease.ErrInvalid) {
			s.Errorf("%s: got error %v, want ErrInvalid", what, err)
		}
		return
	}
	if f.Field == "" || f.Reason == "" {
		s.Errorf("%s: the error names no field or no rule: %#v", what, f)
	}
}

// unsupported asserts that a backend which lacks a power says so.
func (s *suite) unsupported(err error, what string) {
	s.Helper()
	s.is(err, lease.ErrUnsupported, what)
}

// invalid is field for a request that needs a power: where the backend lacks
// it, that may be what it says instead.
func (s *suite) invalid(has bool, err error, what string) {
	s.Helper()
	if !has && errors.Is(err, lease.ErrUnsupported) {
		return
	}
	s.field(err, what)
}

// notFound asserts that the request about a name that nobody has is refused as
// such, or as one that needs a power which the backend lacks.
func (s *suite) notFound(has bool, err error, what string) {
	s.Helper()
	if !has {
		s.unsupported(err, what)
		return
	}
	s.is(err, lease.ErrNotFound, what)
}

// counted passes the statistics of q to check, or asserts ErrUnsupported
// where there are none.
func (s *suite) counted(q string, check func(st driver.QueueStats)) {
	s.Helper()
	st, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
	if !s.caps.Stats {
		s.unsupported(err, "Stats")
		return
	}
	s.must(err, "Stats")
	if len(st) != 1 || st[0].Name != q {
		s.Fatalf("Stats of %s returned %+v", q, st)
	}
	check(st[0])
}
