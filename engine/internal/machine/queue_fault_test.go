package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// faulty is a View some of whose reads fail.
type faulty struct {
	View
	index, message, due, seen func(q uint32, at uint64) error
}

var errFaulty = errors.New("the disk is on fire")

func (v *faulty) LoadIndex(q uint32, from uint64, most int) ([]record.IndexBlock, error) {
	if v.index != nil {
		if err := v.index(q, from); err != nil {
			return nil, err
		}
	}
	return v.View.LoadIndex(q, from, most)
}

func (v *faulty) Message(q uint32, first, seq uint64) (*record.Message, error) {
	if v.message != nil {
		if err := v.message(q, seq); err != nil {
			return nil, err
		}
	}
	return v.View.Message(q, first, seq)
}

func (v *faulty) LoadDue(q uint32, from record.DelayedAt, wall int64, most, mostBytes int) ([]record.Delayed, int64, error) {
	if v.due != nil {
		if err := v.due(q, 0); err != nil {
			return nil, 0, err
		}
	}
	return v.View.LoadDue(q, from, wall, most, mostBytes)
}

func (v *faulty) Seen(q uint32, from, to int64, id string) (bool, error) {
	if v.seen != nil {
		if err := v.seen(q, 0); err != nil {
			return false, err
		}
	}
	return v.View.Seen(q, from, to, id)
}

// TestRedriveReadError fails half way: what has been moved is in one place,
// also after a crash.
func TestRedriveReadError(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("dead", 2000)
	loads := 0
	v := &faulty{View: h.store, index: func(uint32, uint64) error {
		if loads++; loads == 2 {
			return errFaulty
		}
		return nil
	}}
	for range 2 { // two blocks' worth of index
		h.publish("dead", 2000)
	}
	c := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", To: &queuedriver.Route{Key: "other"}}}
	h.m.Tick(h.now, h.store, v)
	h.m.Redrive(h.now, h.store, v, c)
	h.m.Dispatch(h.now, h.store, v)
	h.m.Faults()
	h.store.commit()
	if c.Moved == 0 || c.Moved == 6000 {
		t.Fatalf("moved %d", c.Moved)
	}
	h.m = h.store.reopen(h.now, defaultLimits)
	if d, o := h.stats("dead"), h.stats("other"); d.Ready+o.Ready != 6000 || o.Ready != c.Moved {
		t.Fatalf("moved %d; %d are in the one queue, %d in the other", c.Moved, d.Ready, o.Ready)
	}
	got := 0
	for ls := h.receive("dead", 1000); len(ls) > 0; ls = h.receive("dead", 1000) {
		got += len(ls)
	}
	if got != 6000-int(c.Moved) {
		t.Fatalf("%d were delivered from where %d were moved away", got, c.Moved)
	}
}

// TestRedrivePastOthers moves what can be moved however much is before it
// that cannot.
func TestRedrivePastOthers(t *testing.T) {
	h := newHarness(t, workAndDead())
	c := &Publish{}
	for i := range 5 {
		c.Publishings = append(c.Publishings, queuedriver.Publishing{
			Route: queuedriver.Route{Key: "dead"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, operateBytes/2)},
		})
	}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	h.publish("work", 3)
	for _, l := range h.receive("work", 3) {
		h.settle("work", l, queuedriver.Reject)
	}
	moved, from := int64(0), uint64(0)
	for range 10 {
		c := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead"}, From: from}
		h.round(func() { h.m.Redrive(h.now, h.store, h.store, c) })
		if c.Err != nil {
			t.Fatal(c.Err)
		}
		moved += c.Moved
		if from = c.Next; from == 0 {
			break
		}
	}
	if moved != 3 || from != 0 {
		t.Fatalf("moved %d, next %d", moved, from)
	}
	miss := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", To: &queuedriver.Route{Key: "nowhere"}}}
	h.round(func() { h.m.Redrive(h.now, h.store, h.store, miss) })
	if !errors.Is(miss.Err, lease.ErrNotFound) {
		t.Fatalf("redriven to a queue that is not there: %v", miss.Err)
	}
}

// TestFanOutReadError stores a message in all its queues or in none: an id
// that was noted without its message would make the repeat a duplicate.
func TestFanOutReadError(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Fanout}},
		Queues:    []queuedriver.Queue{{Name: "a", DedupWindow: time.Hour}, {Name: "b", DedupWindow: time.Hour}, {Name: "c"}},
		Bindings:  []queuedriver.Binding{{Exchange: "x", Queue: "c"}, {Exchange: "x", Queue: "a"}, {Exchange: "x", Queue: "b"}},
	})
	bad := h.m.queues["b"].id
	v := &faulty{View: h.store, seen: func(q uint32, _ uint64) error {
		if q == bad {
			return errFaulty
		}
		return nil
	}}
	publish := func(v View) queuedriver.Receipt {
		c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Exchange: "x"}, Message: &queuedriver.Message{ID: "1"}}}}
		h.m.Tick(h.now, h.store, v)
		h.m.Publish(h.now, h.store, v, c)
		h.m.Dispatch(h.now, h.store, v)
		h.m.Faults()
		h.store.commit()
		return c.Receipts[0]
	}
	if r := publish(v); !errors.Is(r.Err, errFaulty) {
		t.Fatalf("%+v", r)
	}
	for _, q := range []string{"a", "b", "c"} {
		if s := h.stats(q); s.Ready != 0 {
			t.Errorf("queue %s has %d", q, s.Ready)
		}
	}
	if r := publish(h.store); r.Err != nil || r.Duplicate {
		t.Fatalf("%+v", r)
	}
	for _, q := range []string{"a", "b", "c"} {
		if s := h.stats(q); s.Ready != 1 {
			t.Errorf("queue %s has %d", q, s.Ready)
		}
	}
}

// TestIndexErrorPasses: who receives while the index cannot be read gets the
// error; who comes when it can be gets the messages.
func TestIndexErrorPasses(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("other", 3)
	h.m = h.store.reopen(h.now, defaultLimits)
	v := &faulty{View: h.store, index: func(uint32, uint64) error { return errFaulty }}
	r := &Receive{Request: &queuedriver.ReceiveRequest{Queue: "other", Consumer: "c", Max: 1, MaxBytes: 1, Wait: time.Second}}
	h.m.Tick(h.now, h.store, v)
	h.m.Receive(h.now, r)
	for range 2 {
		h.m.Dispatch(h.now, h.store, v)
		h.store.commit()
		h.m.Tick(h.now, h.store, v)
	}
	h.m.Dispatch(h.now, h.store, v)
	if !errors.Is(r.Err, errFaulty) || len(h.m.Faults()) == 0 {
		t.Fatalf("received %v, %v", r.Leased, r.Err)
	}
	h.store.commit()
	if got := h.receive("other", 3); len(got) != 3 {
		t.Fatalf("received %v", got)
	}
}

// TestDueErrorPasses tries again, later, what could not be read.
func TestDueErrorPasses(t *testing.T) {
	h := newHarness(t, workAndDead())
	c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "other"}, Message: &queuedriver.Message{ID: "1", Delay: time.Second}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	h.pass(2 * time.Second)
	v := &faulty{View: h.store, due: func(uint32, uint64) error { return errFaulty }}
	for range 3 {
		h.m.Tick(h.now, h.store, v)
		h.m.Dispatch(h.now, h.store, v)
		h.store.commit()
	}
	if f := h.m.Faults(); len(f) != 1 {
		t.Fatalf("%d faults", len(f))
	}
	if at, ok := h.m.NextWake(h.now); !ok || at <= h.now.Mono {
		t.Fatalf("wakes at %v, %v", at, ok)
	}
	h.pass(10 * time.Minute)
	if got := h.receive("other", 1); len(got) != 1 {
		t.Fatal("a scheduled message is lost until an open")
	}
}
