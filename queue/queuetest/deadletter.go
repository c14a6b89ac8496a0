package queuetest

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var deadLetterChecks = []check{
	{"reject carries the story in the headers", deadReject},
	{"the delivery limit is exact", deadLimit},
	{"it may go through an exchange, and keeps its key", deadRoute},
	{"one that routes nowhere stays", deadNowhere},
	{"a rejected one that routes nowhere comes back", deadRejectNowhere},
	{"the shortest backoff is a backoff", deadShortBackoff},
	{"dead letters of dead letters", deadAgain},
	{"dead letters are not deduplicated", deadDedup},
	{"redrive to the origin", redriveOrigin},
	{"redrive to a given route", redriveTo},
	{"redrive in parts, and what cannot move stays", redrivePart},
	{"redrive passes the origin's dedup", redriveDedup},
}

// dies asserts ErrUnsupported where there are no dead letters.
func (s *suite) dies() bool {
	s.Helper()
	if s.caps.DeadLetter {
		return true
	}
	dead := s.queue(fmt.Sprint("dead", len(s.made.Queues)))
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{
		{Name: s.name("dying"), DeadLetter: &driver.Route{Key: dead}},
	}}, false)
	s.unsupported(err, "a queue with a dead letter")
	return false
}

// pair declares a queue and its dead letter queue. ok is false, after
// asserting that the backend says so, if it has none.
func (s *suite) pair(change ...func(*driver.Queue)) (q, dead string, ok bool) {
	s.Helper()
	if !s.dies() {
		return "", "", false
	}
	dead = s.queue("dead")
	spec := driver.Queue{Name: s.name("q"), DeadLetter: &driver.Route{Key: dead}, Backoff: instantly}
	for _, c := range change {
		c(&spec)
	}
	s.declare(driver.Topology{Queues: []driver.Queue{spec}})
	return spec.Name, dead, true
}

// kill rejects the next message of q.
func (s *suite) kill(q, want, why string) {
	s.Helper()
	d := s.one(q, want)
	if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Reject, Reason: why}); !out.DeadLettered {
		s.Fatalf("rejecting %q from %s: the outcome does not say dead-lettered", want, q)
	}
}

// story asserts the headers of a dead letter, exactly.
func (s *suite) story(d driver.Delivery, want driver.Headers) {
	s.Helper()
	got := make(driver.Headers, len(d.Message.Headers))
	for k, v := range d.Message.Headers {
		got[k] = v
	}
	at, _ := got[driver.HeaderDeathTime].(time.Time)
	if age := time.Since(at); age < -time.Hour || age > time.Hour {
		s.Errorf("the time of death is %v", got[driver.HeaderDeathTime])
	}
	delete(got, driver.HeaderDeathTime)
	if !reflect.DeepEqual(got, want) {
		s.Errorf("the dead letter has the headers\n%v, want\n%v", got, want)
	}
}

func deadReject(s *suite) {
	q, dead, ok := s.pair()
	if !ok {
		return
	}
	s.publish(to(q), &driver.Message{ID: "id", Body: []byte("a"), Type: "t", Headers: driver.Headers{"mine": int64(1)}})
	s.settle(driver.Settlement{Ref: s.one(q, "a").Ref, Verb: driver.Nack, Reason: "first"})
	s.kill(q, "a", "bad: ü")
	s.none(q)
	d := s.one(dead, "a")
	s.story(d, driver.Headers{
		"mine":                     int64(1),
		driver.HeaderDeathReason:   driver.ReasonRejected,
		driver.HeaderDeathDetail:   "bad: ü",
		driver.HeaderDeathQueue:    q,
		driver.HeaderDeathCount:    int64(1),
		driver.HeaderDeathAttempts: int64(2),
		driver.HeaderOriginalRoute: "",
		driver.HeaderOriginalKey:   q,
	})
	if d.Attempt != 1 || d.Message.ID != "id" || d.Message.Type != "t" || d.Route != to(dead) {
		s.Errorf("the dead letter is %+v with message %+v", d, d.Message)
	}
}

func deadLimit(s *suite) {
	const limit = 4
	q, dead, ok := s.pair(func(q *driver.Queue) { q.DeliveryLimit = limit })
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	for attempt := 1; attempt <= limit; attempt++ {
		if s.caps.FreeRelease { // hand-backs do not count
			s.settle(driver.Settlement{Ref: s.one(q, "a").Ref, Verb: driver.Release})
		}
		d := s.one(q, "a")
		if d.Attempt != attempt {
			s.Fatalf("delivery %d is attempt %d", attempt, d.Attempt)
		}
		out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Reason: fmt.Sprintf("try %d", attempt)})
		if out.DeadLettered != (attempt == limit) {
			s.Fatalf("after attempt %d of %d: dead-lettered is %v", attempt, limit, out.DeadLettered)
		}
	}
	s.none(q)
	s.story(s.one(dead, "a"), driver.Headers{
		driver.HeaderDeathReason:   driver.ReasonDeliveryLimit,
		driver.HeaderDeathDetail:   "try 4",
		driver.HeaderDeathQueue:    q,
		driver.HeaderDeathCount:    int64(1),
		driver.HeaderDeathAttempts: int64(limit),
		driver.HeaderOriginalRoute: "",
		driver.HeaderOriginalKey:   q,
	})
}

func deadRoute(s *suite) {
	if !s.dies() {
		return
	}
	in, dlx := s.name("in"), s.name("dlx")
	q, dead := s.name("q"), s.name("dead")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: in, Kind: driver.Topic}, {Name: dlx, Kind: driver.Topic}},
		Queues:    []driver.Queue{{Name: dead}, {Name: q, DeadLetter: &driver.Route{Exchange: dlx}}},
		Bindings:  []driver.Binding{{Exchange: in, Queue: q, Key: "#"}, {Exchange: dlx, Queue: dead, Key: "a.*"}},
	})
	s.bodies(driver.Route{Exchange: in, Key: "a.b"}, "x")
	s.kill(q, "x", "")
	d := s.one(dead, "x")
	if want := (driver.Route{Exchange: dlx, Key: "a.b"}); d.Route != want {
		s.Errorf("the dead letter has the route %+v, want %+v", d.Route, want)
	}
	if h := d.Message.Headers; h[driver.HeaderOriginalRoute] != in || h[driver.HeaderOriginalKey] != "a.b" {
		s.Errorf("the dead letter has the headers %v", h)
	}
}

// nowhere declares a queue whose dead letters lead to no queue, and returns
// the binding that would give them a place.
func (s *suite) nowhere(limit int, backoff driver.Backoff) (q string, place driver.Binding) {
	s.Helper()
	dlx, q := s.name("dlx"), s.name("q")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: dlx, Kind: driver.Direct}},
		Queues: []driver.Queue{{
			Name: q, DeadLetter: &driver.Route{Exchange: dlx, Key: "k"}, DeliveryLimit: limit, Backoff: backoff,
		}},
	})
	return q, driver.Binding{Exchange: dlx, Queue: s.name("dead"), Key: "k"}
}

// stays asserts that q has its one message still.
func (s *suite) stays(q string) {
	s.Helper()
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready+st.Delayed != 1 || st.InFlight != 0 || st.Dropped != 0 || st.DeadLettered != 0 {
			s.Fatalf("the message is not where it was: %+v", st)
		}
	})
}

// A message past its limit is never lost for want of a place to go to, and
// never delivered again: it stays where it is, and goes when there is one.
func deadNowhere(s *suite) {
	if !s.dies() {
		return
	}
	const limit = 2
	q, place := s.nowhere(limit, instantly)
	s.bodies(to(q), "x")
	for attempt := 1; attempt <= limit; attempt++ {
		d := s.one(q, "x")
		if d.Attempt != attempt {
			s.Fatalf("delivery %d is attempt %d", attempt, d.Attempt)
		}
		if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Reason: "last"}); out.DeadLettered {
			s.Error("the outcome says dead-lettered, to nowhere")
		}
		s.refused(d.Ref)
	}
	r := s.request(q, 1)
	for range 10 { // each is past the backoff
		r.Wait = 20 * time.Millisecond
		if ds := s.fetch(r); len(ds) > 0 {
			s.Fatalf("attempt %d of %d was delivered", ds[0].Attempt, limit)
		}
	}
	s.stays(q)
	dead := s.queue("dead")
	s.declare(driver.Topology{Bindings: []driver.Binding{place}})
	for end := time.Now().Add(s.h.Patience); ; {
		if ds := s.fetch(r); len(ds) > 0 { // it may need somebody who asks
			s.Fatalf("attempt %d of %d was delivered", ds[0].Attempt, limit)
		}
		if ds := s.fetch(s.request(dead, 1)); len(ds) == 1 {
			// Why the last attempt failed is kept where it costs nothing.
			delete(ds[0].Message.Headers, driver.HeaderDeathDetail)
			s.story(ds[0], driver.Headers{
				driver.HeaderDeathReason:   driver.ReasonDeliveryLimit,
				driver.HeaderDeathQueue:    q,
				driver.HeaderDeathCount:    int64(1),
				driver.HeaderDeathAttempts: int64(limit),
				driver.HeaderOriginalRoute: "",
				driver.HeaderOriginalKey:   q,
			})
			s.ack(ds[0])
			break
		}
		if time.Now().After(end) {
			s.Fatalf("it did not arrive in %v", s.h.Patience)
		}
	}
	s.none(q)
	s.none(dead)
}

// A rejected message that has nowhere to go comes back to its consumers after
// the backoff: there is no limit that it is past.
func deadRejectNowhere(s *suite) {
	if !s.dies() {
		return
	}
	const pause = 200 * time.Millisecond
	q, place := s.nowhere(10, driver.Backoff{Min: pause, Max: pause})
	s.bodies(to(q), "x")
	d := s.one(q, "x")
	for attempt := 2; attempt <= 3; attempt++ {
		began := time.Now()
		if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Reject, Reason: "bad"}); out.DeadLettered {
			s.Error("the outcome says dead-lettered, to nowhere")
		}
		s.refused(d.Ref)
		s.stays(q)
		again := s.one(q, "x")
		if took := time.Since(began); took < pause/2*9/10 { // jitter takes half at most
			s.Errorf("it came back after %v, want at least %v", took, pause/2)
		}
		if again.Attempt != attempt || again.Token <= d.Token || s.caps.Numbered && again.Seq != d.Seq {
			s.Errorf("it came back as attempt %d of message %d with token %d, want attempt %d of %d with more than %d",
				again.Attempt, again.Seq, again.Token, attempt, d.Seq, d.Token)
		}
		d = again
	}
	dead := s.queue("dead")
	s.declare(driver.Topology{Bindings: []driver.Binding{place}})
	if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Reject, Reason: "bad"}); !out.DeadLettered {
		s.Error("with a place to go to, the outcome does not say dead-lettered")
	}
	s.want(dead, "x")
	s.none(q)
}

// A backoff of one nanosecond delays nothing, but one message that cannot be
// dead-lettered must not keep the backend from everything else.
func deadShortBackoff(s *suite) {
	if !s.dies() {
		return
	}
	q, _ := s.nowhere(1, driver.Backoff{Min: 1, Max: 1})
	s.bodies(to(q), "x", "y")
	s.settle(driver.Settlement{Ref: s.one(q, "x").Ref, Verb: driver.Nack})
	s.ack(s.one(q, "y"))
	s.none(q)
	s.stays(q)
}

func deadAgain(s *suite) {
	if !s.dies() {
		return
	}
	grave, dead, q := s.name("grave"), s.name("dead"), s.name("q")
	s.declare(driver.Topology{Queues: []driver.Queue{
		{Name: grave},
		{Name: dead, DeadLetter: &driver.Route{Key: grave}},
		{Name: q, DeadLetter: &driver.Route{Key: dead}},
	}})
	s.bodies(to(q), "a")
	s.kill(q, "a", "once")
	s.kill(dead, "a", "")
	s.story(s.one(grave, "a"), driver.Headers{
		driver.HeaderDeathReason:   driver.ReasonRejected,
		driver.HeaderDeathQueue:    dead,
		driver.HeaderDeathCount:    int64(2),
		driver.HeaderDeathAttempts: int64(1),
		driver.HeaderOriginalRoute: "",
		driver.HeaderOriginalKey:   q,
	})
}

func deadDedup(s *suite) {
	if !s.dies() || !s.dedups() {
		return
	}
	dead := s.queue("dead", dedupHour)
	q := s.queue("q", func(q *driver.Queue) { q.DeadLetter = &driver.Route{Key: dead} })
	for range 2 {
		s.publish(to(q), &driver.Message{ID: "same", Body: []byte("a")})
		s.kill(q, "a", "")
	}
	s.want(dead, "a", "a")
}

func redriveOrigin(s *suite) {
	if !s.redriven() {
		return
	}
	in, q, dead := s.name("in"), s.name("q"), s.name("dead")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: in, Kind: driver.Direct}},
		Queues:    []driver.Queue{{Name: dead}, {Name: q, DeadLetter: &driver.Route{Key: dead}}},
		Bindings:  []driver.Binding{{Exchange: in, Queue: q, Key: "k"}},
	})
	s.publish(driver.Route{Exchange: in, Key: "k"}, body("a"), body("b"))
	s.kill(q, "a", "")
	s.kill(q, "b", "")
	s.redrive(driver.RedriveRequest{Queue: dead}, 2)
	s.none(dead)
	for i, d := range s.want(q, "a", "b") {
		if want := (driver.Route{Exchange: in, Key: "k"}); d.Attempt != 1 || d.Route != want {
			s.Errorf("message %d came back as attempt %d by %+v", i, d.Attempt, d.Route)
		}
		if d.Message.Headers[driver.HeaderDeathCount] != int64(1) {
			s.Errorf("message %d came back with the headers %v, want its count of deaths kept", i, d.Message.Headers)
		}
	}
}

// redriven asserts ErrUnsupported where there is no redrive.
func (s *suite) redriven() bool {
	s.Helper()
	if s.caps.Redrive && s.caps.DeadLetter {
		return true
	}
	_, err := s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: s.queue(fmt.Sprint("any", len(s.made.Queues)))})
	s.unsupported(err, "Redrive")
	return false
}

func (s *suite) redrive(r driver.RedriveRequest, want int64) {
	s.Helper()
	n, err := s.conn.Redrive(s.ctx, &r)
	s.must(err, "Redrive")
	if n != want {
		s.Fatalf("Redrive moved %d, want %d", n, want)
	}
}

func redriveTo(s *suite) {
	if !s.redriven() {
		return
	}
	q, dead, _ := s.pair()
	other := s.queue("other")
	s.bodies(to(q), "a")
	s.kill(q, "a", "")
	_, err := s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: dead, To: &driver.Route{Exchange: s.name("unknown")}})
	s.is(err, lease.ErrNotFound, "Redrive to an unknown exchange")
	s.redrive(driver.RedriveRequest{Queue: dead, To: &driver.Route{Key: other}}, 1)
	s.none(q)
	s.none(dead)
	s.want(other, "a")
}

func redrivePart(s *suite) {
	if !s.redriven() {
		return
	}
	q, dead, _ := s.pair()
	s.bodies(to(q), "a", "b", "c")
	for _, b := range []string{"a", "b", "c"} {
		s.kill(q, b, "")
	}
	s.redrive(driver.RedriveRequest{Queue: dead, Max: 2}, 2)
	s.want(q, "a", "b")
	d := s.one(dead, "c")
	s.redrive(driver.RedriveRequest{Queue: dead}, 0) // it is in flight
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	// A route to no queue moves nothing, whether or not that counts as an
	// unknown name.
	n, err := s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: dead, To: &driver.Route{Key: s.name("nobody")}})
	if n != 0 || err != nil && !errors.Is(err, lease.ErrNotFound) {
		s.Errorf("Redrive to no queue moved %d, error %v; want 0 and none, or ErrNotFound", n, err)
	}
	s.redrive(driver.RedriveRequest{Queue: dead}, 1)
	s.want(q, "c")
	// What never died has nowhere to go back to.
	s.bodies(to(dead), "alive")
	s.redrive(driver.RedriveRequest{Queue: dead}, 0)
	s.want(dead, "alive")
}

func redriveDedup(s *suite) {
	if !s.dedups() || !s.redriven() {
		return
	}
	q, dead, _ := s.pair(dedupHour)
	s.publish(to(q), &driver.Message{ID: "id", Body: []byte("a")})
	s.kill(q, "a", "")
	s.redrive(driver.RedriveRequest{Queue: dead}, 1)
	s.want(q, "a")
}
