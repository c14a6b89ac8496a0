package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// startOn opens an engine on a disk of the test's and returns a connection.
func startOn(t *testing.T, disk *storetest.Disk) (*core, *queueConn) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: "/data", FS: disk, ReserveBytes: -1, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	c, err := startCore(s, params{minTTL: 10 * time.Millisecond}, false, &Options{})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return c, &queueConn{&conn{core: c, gone: make(chan struct{})}}
}

// queueFacts is what the client of a queue was told, and what it asked and has
// not been told yet.
type queueFacts struct {
	stored map[string]bool // confirmed, not acked
	gone   map[string]bool // ack confirmed
	doubt  map[string]bool // an operation on it is under way
	held   map[string]queuedriver.Ref
	buried map[string]bool   // seen to have timed out
	ended  []queuedriver.Ref // ended otherwise than by an ack, confirmed
	last   lease.Token
}

func (f *queueFacts) clone() *queueFacts {
	return &queueFacts{
		stored: maps.Clone(f.stored), gone: maps.Clone(f.gone), doubt: maps.Clone(f.doubt),
		held: maps.Clone(f.held), buried: maps.Clone(f.buried), ended: append([]queuedriver.Ref(nil), f.ended...), last: f.last,
	}
}

// queueLoad is a scripted load over publishing, dedup, delay, keys, nacks,
// cancels, releases, acks and dead letters.
type queueLoad struct {
	t     *testing.T
	conn  *queueConn
	mu    sync.Mutex
	facts *queueFacts
}

func crashTopology() *queuedriver.Topology {
	return &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "in", Kind: queuedriver.Topic}, {Name: "graves", Kind: queuedriver.Fanout}},
		Queues: []queuedriver.Queue{
			{Name: "work", DedupWindow: time.Hour, DeliveryLimit: 2, DeadLetter: &queuedriver.Route{Exchange: "graves"}, Lease: time.Hour},
			{Name: "dead", Lease: time.Hour},
			{Name: "brief", DedupWindow: time.Hour, DeadLetter: &queuedriver.Route{Exchange: "graves"}, Lease: time.Hour},
		},
		Bindings: []queuedriver.Binding{{Exchange: "in", Queue: "work", Key: "#"}, {Exchange: "graves", Queue: "dead"}},
	}
}

// about marks ids as being worked on, runs do, and notes by note what became
// certain.
func (l *queueLoad) about(ids []string, do func(), note func(f *queueFacts)) {
	l.mu.Lock()
	for _, id := range ids {
		l.facts.doubt[id] = true
	}
	l.mu.Unlock()
	do()
	l.mu.Lock()
	for _, id := range ids {
		delete(l.facts.doubt, id)
	}
	note(l.facts)
	l.mu.Unlock()
}

func (l *queueLoad) publish(n, from int, size int, delay time.Duration) {
	var ids []string
	var ps []queuedriver.Publishing
	for i := range n {
		id := fmt.Sprint("m", from+i)
		ids = append(ids, id)
		ps = append(ps, queuedriver.Publishing{
			Route: queuedriver.Route{Exchange: "in", Key: "a.b"}, Mandatory: true,
			Message: &queuedriver.Message{ID: id, Body: make([]byte, size), Delay: delay, OrderKey: []string{"", "k1", "k2"}[i%3]},
		})
	}
	l.about(ids, func() {
		rs, err := l.conn.Publish(context.Background(), ps)
		if err != nil {
			l.t.Errorf("publish: %v", err)
		}
		for _, r := range rs {
			if r.Err != nil || r.Queues != 1 || r.Durability != queuedriver.Synced {
				l.t.Errorf("receipt %+v", r)
			}
		}
	}, func(f *queueFacts) {
		for _, id := range ids {
			f.stored[id] = true
		}
	})
}

func (l *queueLoad) receive(max int) []queuedriver.Delivery {
	ds, err := l.conn.Receive(context.Background(), &queuedriver.ReceiveRequest{Queue: "work", Consumer: "c", Max: max, Wait: time.Minute})
	if err != nil {
		l.t.Errorf("receive: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		if d.Token <= l.facts.last {
			l.t.Errorf("token %d after %d", d.Token, l.facts.last)
		}
		l.facts.last = d.Token
		l.facts.held[d.Message.ID] = d.Ref
	}
	return ds
}

func (l *queueLoad) settle(v queuedriver.Verb, ds []queuedriver.Delivery) {
	var ids []string
	var ss []queuedriver.Settlement
	for _, d := range ds {
		ids = append(ids, d.Message.ID)
		ss = append(ss, queuedriver.Settlement{Ref: d.Ref, Verb: v, Reason: "because"})
	}
	l.about(ids, func() {
		os, err := l.conn.Settle(context.Background(), ss)
		if err != nil {
			l.t.Errorf("settle: %v", err)
		}
		for _, o := range os {
			if o.Err != nil {
				l.t.Errorf("outcome %+v", o)
			}
		}
	}, func(f *queueFacts) {
		for _, d := range ds {
			delete(f.held, d.Message.ID)
			if v == queuedriver.Ack {
				delete(f.stored, d.Message.ID)
				f.gone[d.Message.ID] = true
			} else {
				f.ended = append(f.ended, d.Ref)
			}
		}
	})
}

func (l *queueLoad) cancel(id string) {
	l.about([]string{id}, func() {
		if err := l.conn.CancelScheduled(context.Background(), "work", id); err != nil {
			l.t.Errorf("cancel: %v", err)
		}
	}, func(f *queueFacts) {
		delete(f.stored, id)
		f.gone[id] = true
	})
}

func (l *queueLoad) run() {
	if _, err := l.conn.Declare(context.Background(), crashTopology(), false); err != nil {
		l.t.Fatal(err)
	}
	for base := 0; base < 2000; base += 1000 {
		l.phase(base)
	}
}

func (l *queueLoad) phase(base int) {
	l.publish(20, base, 100, 0)
	l.publish(3, base+100, 70_000, 0)
	l.publish(5, base+200, 100, time.Hour)
	l.cancel(fmt.Sprint("m", base+201))
	l.cancel(fmt.Sprint("m", base+203))
	first := l.receive(6)
	l.settle(queuedriver.Ack, first[:2])
	l.settle(queuedriver.Nack, first[2:4])
	l.settle(queuedriver.Release, first[4:5])
	// first[5] stays held
	for range 6 {
		ds := l.receive(3)
		if len(ds) > 2 {
			l.settle(queuedriver.Reject, ds[2:3])
		}
		if len(ds) > 1 {
			l.settle(queuedriver.Nack, ds[1:2])
		}
		l.settle(queuedriver.Ack, ds[:1])
	}
	l.publish(10, base+300, 5000, 0)
	l.settle(queuedriver.Ack, l.receive(8))
	l.expire(5, base+400, soon)
	l.expire(5, base+500, time.Hour)
}

// expire publishes messages with a TTL, and waits for the dead letters of those
// whose time is over soon: they are in one place or in the other meanwhile.
func (l *queueLoad) expire(n, from int, ttl time.Duration) {
	ids, ps := make([]string, n), make([]queuedriver.Publishing, n)
	for i := range n {
		ids[i] = fmt.Sprint("m", from+i)
		ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: "brief"}, Message: &queuedriver.Message{ID: ids[i], Body: make([]byte, 100), TTL: ttl}}
	}
	l.about(ids, func() {
		rs, err := l.conn.Publish(context.Background(), ps)
		for _, r := range rs {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			l.t.Errorf("publish: %v", err)
		}
	}, func(f *queueFacts) {
		for _, id := range ids {
			f.stored[id] = true
		}
	})
	if ttl != soon {
		return
	}
	awaitTimeOuts(l.t, l.conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.facts.buried[id] = true
	}
}

// soon is the TTL of messages that are waited for.
const soon = time.Millisecond

// awaitTimeOuts waits until messages whose time is over soon have gone.
func awaitTimeOuts(t *testing.T, conn *queueConn) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		ps, err := conn.Peek(context.Background(), &queuedriver.PeekRequest{Queue: "brief", Max: queuedriver.MaxPeek})
		if err != nil || time.Now().After(until) {
			t.Fatalf("%d messages are left, %v", len(ps), err)
		}
		if !slices.ContainsFunc(ps, func(p queuedriver.Peeked) bool { return p.Message.TTL == soon }) {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// home is the queue that a message is published to.
func home(id string) string {
	if n, err := strconv.Atoi(id[1:]); err == nil && n%1000 >= 400 && n%1000 < 600 {
		return "brief"
	}
	return "work"
}

// TestQueueCrashAnywhere crashes at every write, sync and change of a
// directory of a scripted load, and checks what the client was told.
func TestQueueCrashAnywhere(t *testing.T) {
	type crash struct {
		disk  *storetest.Disk
		facts *queueFacts
	}
	var crashes []crash
	disk := storetest.NewDisk()
	c, conn := startOn(t, disk)
	load := &queueLoad{t: t, conn: conn, facts: &queueFacts{
		stored: make(map[string]bool), gone: make(map[string]bool), doubt: make(map[string]bool), held: make(map[string]queuedriver.Ref),
		buried: make(map[string]bool),
	}}
	disk.OnOp(func(storetest.Op) error {
		load.mu.Lock()
		defer load.mu.Unlock()
		n := len(crashes)
		crashes = append(crashes, crash{disk.Crash([]int{0, 50, 100}[n%3], int64(n)), load.facts.clone()})
		return nil
	})
	load.run()
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	if len(crashes) < 150 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for n, x := range crashes {
		checkAfterCrash(t, n, x.disk, x.facts)
		if t.Failed() {
			return
		}
	}
}

func checkAfterCrash(t *testing.T, n int, disk *storetest.Disk, f *queueFacts) {
	t.Helper()
	c, conn := startOn(t, disk)
	defer func() {
		if err := c.close(); err != nil {
			t.Errorf("crash %d: close: %v", n, err)
		}
	}()
	ctx := context.Background()
	if len(f.stored)+len(f.gone) == 0 {
		return // the topology may not be there yet
	}
	awaitTimeOuts(t, conn)
	found := make(map[string]int)
	for _, q := range []string{"work", "brief", "dead"} {
		ps, err := conn.Peek(ctx, &queuedriver.PeekRequest{Queue: q, Max: queuedriver.MaxPeek})
		if err != nil {
			t.Fatalf("crash %d: peek: %v", n, err)
		}
		for _, p := range ps {
			found[p.Message.ID]++
			if q == "brief" && f.buried[p.Message.ID] {
				t.Errorf("crash %d: %s has timed out and is back", n, p.Message.ID)
			}
		}
	}
	for id, times := range found {
		if times > 1 || f.gone[id] || !f.stored[id] && !f.doubt[id] {
			t.Errorf("crash %d: %s is there %d times; acked %v", n, id, times, f.gone[id])
		}
	}
	for id := range f.stored {
		if found[id] == 0 && !f.doubt[id] {
			t.Errorf("crash %d: %s is lost", n, id)
		}
	}
	checkCancelAfterCrash(t, n, conn)
	checkSettlesAfterCrash(t, n, conn, f)
	checkPublishAfterCrash(t, n, conn, f)
}

// checkCancelAfterCrash: what is scheduled can be cancelled.
func checkCancelAfterCrash(t *testing.T, n int, conn *queueConn) {
	t.Helper()
	ps, err := conn.Peek(context.Background(), &queuedriver.PeekRequest{Queue: "work", Max: queuedriver.MaxPeek})
	if err != nil {
		t.Fatalf("crash %d: peek: %v", n, err)
	}
	for _, p := range ps {
		if p.Seq == 0 && (p.Message.ID == "m202" || p.Message.ID == "m1204") {
			if err := conn.CancelScheduled(context.Background(), "work", p.Message.ID); err != nil {
				t.Errorf("crash %d: cancel of %s: %v", n, p.Message.ID, err)
			}
		}
	}
}

// checkSettlesAfterCrash: late ends are refused, live deliveries are not.
func checkSettlesAfterCrash(t *testing.T, n int, conn *queueConn, f *queueFacts) {
	t.Helper()
	settle := func(ref queuedriver.Ref) error {
		os, err := conn.Settle(context.Background(), []queuedriver.Settlement{{Ref: ref, Verb: queuedriver.Ack}})
		if err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
		return os[0].Err
	}
	for _, ref := range f.ended {
		if err := settle(ref); !errors.Is(err, lease.ErrNotHeld) {
			t.Errorf("crash %d: late ack of %d: %v", n, ref.Seq, err)
		}
	}
	for id, ref := range f.held {
		if err := settle(ref); err != nil && !f.doubt[id] {
			t.Errorf("crash %d: ack of %s, still held: %v", n, id, err)
		}
	}
}

// checkPublishAfterCrash: confirmed ids are remembered, tokens go on.
func checkPublishAfterCrash(t *testing.T, n int, conn *queueConn, f *queueFacts) {
	t.Helper()
	ps := []queuedriver.Publishing{{Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: "new"}}}
	for _, known := range []map[string]bool{f.stored, f.gone} {
		for id := range known {
			ps = append(ps, queuedriver.Publishing{Route: queuedriver.Route{Key: home(id)}, Message: &queuedriver.Message{ID: id}})
		}
	}
	rs, err := conn.Publish(context.Background(), ps)
	if err != nil {
		t.Fatalf("crash %d: publish: %v", n, err)
	}
	for i, r := range rs {
		if r.Err != nil || r.Duplicate != (i > 0) {
			t.Errorf("crash %d: publishing %s again: %+v", n, ps[i].Message.ID, r)
		}
	}
	ds, err := conn.Receive(context.Background(), &queuedriver.ReceiveRequest{Queue: "work", Consumer: "c", Max: 1, Wait: time.Minute})
	if err != nil || len(ds) != 1 || ds[0].Token <= f.last {
		t.Errorf("crash %d: received %v after token %d: %v", n, ds, f.last, err)
	}
}
