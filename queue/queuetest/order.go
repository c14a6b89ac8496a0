package queuetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var orderChecks = []check{
	{"one key, one at a time", orderSerial},
	{"a failing key blocks only itself, until it is dead-lettered", orderFailing},
	{"one that cannot be dead-lettered keeps its key's turn", orderNowhere},
	{"messages without key pass", orderKeyless},
	{"an expired lease keeps the order", orderExpiry},
	{"10,000 keys, 100 workers", orderMany},
}

func key(k, b string) *driver.Message { return &driver.Message{OrderKey: k, Body: []byte(b)} }

// orders asserts ErrUnsupported where there are no order keys.
func (s *suite) orders(q string) bool {
	s.Helper()
	if s.caps.OrderKey {
		return true
	}
	s.unsupported(s.outcome(driver.Publishing{Route: to(q), Message: key("k", "a")}), "an order key")
	return false
}

func orderSerial(s *suite) {
	q := s.queue("q")
	if !s.orders(q) {
		return
	}
	s.publish(to(q), key("k", "1"), key("k", "2"), key("l", "3"), key("k", "4"))
	ds := s.receive(q, 2)
	if string(ds[0].Message.Body) != "1" || string(ds[1].Message.Body) != "3" {
		s.Fatalf("got %q and %q, want 1 and 3", ds[0].Message.Body, ds[1].Message.Body)
	}
	s.none(q)
	s.settle(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Release})
	d := s.one(q, "1")
	s.none(q)
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack})
	s.ack(s.one(q, "1"))
	s.ack(s.one(q, "2"))
	s.ack(s.one(q, "4"))
	s.none(q)
	s.ack(ds[1])
}

func orderFailing(s *suite) {
	q := s.queue("keyless")
	keyed, dead, ok := s.pair(func(spec *driver.Queue) { spec.DeliveryLimit = 2 })
	if !s.orders(q) || !ok {
		return
	}
	s.publish(to(keyed), key("bad", "poison"), key("bad", "next"), key("good", "1"), key("good", "2"))
	d := s.one(keyed, "poison")
	nack := driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: 6 * s.unit} // time for the other key
	if !s.caps.DelayedNack {
		s.unsupported(s.try(nack).Err, "a nack with a delay")
		return
	}
	due := time.Now().Add(nack.Delay)
	s.settle(nack)
	s.ack(s.one(keyed, "1"))
	s.ack(s.one(keyed, "2"))
	s.noneBefore(keyed, due) // "next" waits for its key, which waits for its time
	d = s.one(keyed, "poison")
	s.none(keyed)
	if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack}); !out.DeadLettered {
		s.Fatal("the second failure of two did not dead-letter")
	}
	s.ack(s.one(keyed, "next"))
	s.one(dead, "poison")
}

// A message past its limit that has nowhere to go is not dead-lettered yet:
// those behind it must not overtake it.
func orderNowhere(s *suite) {
	if !s.dies() || !s.orders(s.queue("keyless")) {
		return
	}
	q, place := s.nowhere(1, instantly)
	s.publish(to(q), key("k", "1"), key("k", "2"), key("l", "3"))
	if out := s.settle(driver.Settlement{Ref: s.one(q, "1").Ref, Verb: driver.Nack}); out.DeadLettered {
		s.Error("the outcome says dead-lettered, to nowhere")
	}
	s.ack(s.one(q, "3"))
	r := s.request(q, 10)
	r.Wait = 50 * time.Millisecond // many times the backoff
	if ds := s.fetch(r); len(ds) > 0 {
		s.Fatalf("%q was delivered, attempt %d", ds[0].Message.Body, ds[0].Attempt)
	}
	dead := s.queue("dead")
	s.declare(driver.Topology{Bindings: []driver.Binding{place}})
	s.ack(s.one(q, "2"))
	s.want(dead, "1")
	s.none(q)
}

func orderKeyless(s *suite) {
	q := s.queue("q")
	if !s.orders(q) {
		return
	}
	s.publish(to(q), key("k", "1"), key("k", "2"), body("free 1"), body("free 2"))
	ds := s.receive(q, 3)
	var got []string
	for _, d := range ds {
		got = append(got, string(d.Message.Body))
	}
	if fmt.Sprint(got) != "[1 free 1 free 2]" {
		s.Errorf("got %v, want [1 free 1 free 2]", got)
	}
	s.none(q)
}

func orderExpiry(s *suite) {
	q := s.queue("q")
	if !s.orders(q) {
		return
	}
	s.publish(to(q), key("k", "1"), key("k", "2"))
	s.receiveFor(q, 1, s.unit)
	d := s.one(q, "1") // after the expiry, before 2
	if d.Attempt != 2 {
		s.Errorf("it came back as attempt %d", d.Attempt)
	}
	s.ack(d)
	s.ack(s.one(q, "2"))
}

// lanes watches what the workers of orderMany do.
type lanes struct {
	mu     sync.Mutex
	busy   map[string]bool
	next   map[string]int
	left   int
	wrong  []string
	done   chan struct{}
	first  int
	gather chan struct{} // closed when every worker has its first delivery
}

func (l *lanes) fail(format string, args ...any) {
	if len(l.wrong) < 10 {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// begin notes that a worker got a delivery.
func (l *lanes) begin(d *driver.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := d.Message.OrderKey
	if l.busy[k] {
		l.fail("key %s is handled twice at once", k)
	}
	l.busy[k] = true
	if want := fmt.Sprint(l.next[k]); string(d.Message.Body) != want {
		l.fail("key %s: got message %s, want %s", k, d.Message.Body, want)
	}
}

// end notes what comes of it, before the settlement is sent.
func (l *lanes) end(d *driver.Delivery, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[d.Message.OrderKey] = false
	if !acked {
		return
	}
	l.next[d.Message.OrderKey]++
	if l.left--; l.left == 0 {
		close(l.done)
	}
}

// No key is ever handled concurrently or out of order, whatever fails; all
// workers have something to do.
func orderMany(s *suite) {
	const keys, each, workers = 10_000, 2, 100
	q := s.queue("q")
	if !s.orders(q) {
		return
	}
	for from := 0; from < keys; from += 1000 {
		var ms, later []*driver.Message
		for k := from; k < from+1000; k++ {
			for i := range each {
				m := key(fmt.Sprint("key ", k), fmt.Sprint(i))
				if i == 0 || k%2 == 0 { // one after another, or far apart
					ms = append(ms, m)
				} else {
					later = append(later, m)
				}
			}
		}
		s.publish(to(q), append(ms, later...)...)
	}
	l := &lanes{
		busy: map[string]bool{}, next: map[string]int{}, left: keys * each,
		done: make(chan struct{}), gather: make(chan struct{}),
	}
	var wg sync.WaitGroup
	for i := range workers {
		conn := s.conn
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() { s.orderWorker(conn, q, fmt.Sprint("worker ", i), rng, l, workers) })
	}
	timeout := time.After(5 * s.h.Patience)
	select {
	case <-l.done:
	case <-timeout:
		l.mu.Lock()
		s.Errorf("%d of %d messages are left; %d of %d workers got one", l.left, keys*each, l.first, workers)
		if l.left > 0 {
			l.left = 0
			close(l.done)
		}
		l.mu.Unlock()
	}
	wg.Wait()
	if len(l.wrong) > 0 {
		s.Errorf("%s", strings.Join(l.wrong, "\n"))
	}
	s.none(q)
}

func (s *suite) orderWorker(conn driver.Conn, q, name string, rng *rand.Rand, l *lanes, workers int) {
	first := true
	for {
		select {
		case <-l.done:
			return
		default:
		}
		most := 1
		if !first {
			most = 1 + rng.IntN(4)
		}
		ds, err := conn.Receive(s.ctx, &driver.ReceiveRequest{Queue: q, Consumer: name, Max: most, Wait: 100 * time.Millisecond})
		if err != nil {
			s.Errorf("Receive: %v", err)
			return
		}
		for i := range ds {
			l.begin(&ds[i])
		}
		if first && len(ds) > 0 {
			first = false
			l.mu.Lock()
			if l.first++; l.first == workers {
				close(l.gather)
			}
			l.mu.Unlock()
			select { // hold it until all of them have one: all can be busy at once
			case <-l.gather:
			case <-l.done:
				return
			}
		}
		ss := make([]driver.Settlement, len(ds))
		for i := range ds {
			ss[i] = driver.Settlement{Ref: ds[i].Ref, Verb: driver.Ack}
			switch p := rng.IntN(100); {
			case p < 5:
				ss[i].Verb = driver.Nack
			case p < 10:
				ss[i].Verb = driver.Release
			}
			l.end(&ds[i], ss[i].Verb == driver.Ack)
		}
		out, err := conn.Settle(s.ctx, ss)
		if err != nil {
			s.Errorf("Settle: %v", err)
			return
		}
		for i := range out {
			if out[i].Err != nil {
				s.Errorf("Settle: %v", out[i].Err)
				return
			}
		}
	}
}
