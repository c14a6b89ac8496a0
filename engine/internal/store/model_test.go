package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const dir = "/store"

func openDisk(t testing.TB, d *storetest.Disk) *Store {
	t.Helper()
	s, err := Open(diskOptions(d))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func diskOptions(d *storetest.Disk) Options {
	return Options{Dir: dir, FS: d, MemTableBytes: 64 << 10, RoomEvery: -1, ReserveBytes: -1}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// commit applies what fill puts into a batch and waits.
func commit(t testing.TB, s *Store, fill func(b *Batch)) {
	t.Helper()
	if err := tryCommit(s, fill); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func tryCommit(s *Store, fill func(b *Batch)) error {
	b := s.NewBatch()
	fill(b)
	p, err := s.Apply(b)
	if err != nil {
		return err
	}
	return p.Wait()
}

func message(body string) record.Message {
	return record.Message{
		Route:     queuedriver.Route{Exchange: "x", Key: "k"},
		Published: 1_700_000_000_000_000_000,
		Message: &queuedriver.Message{
			ID: "id-" + body[:min(8, len(body))], OrderKey: "key", Body: []byte(body),
			Headers: queuedriver.Headers{"n": int64(1), "t": time.Unix(1_700_000_000, 0).UTC()},
		},
	}
}

// state is everything in a store, as text that can be compared: one line for
// each key.
type state map[string]string

// dump reads everything through the public functions, each message alone.
func dump(s *Store) (state, error) {
	st := state{}
	put := func(key string, v any) { st[key] = fmt.Sprintf("%+v", v) }
	meta := s.Meta()
	put("meta", meta)
	var qs []*record.Queue
	err := errors.Join(
		s.Locks(func(n string, l *record.Lock) error { put("lock "+n, *l); return nil }),
		s.Exchanges(func(e *queuedriver.Exchange) error { put("exchange "+e.Name, *e); return nil }),
		s.Bindings(func(b *queuedriver.Binding) error { put("binding "+b.Exchange+b.Queue+b.Key, *b); return nil }),
		s.Queues(func(q *record.Queue) error {
			qs = append(qs, q)
			put("queue "+q.Spec.Name, *q)
			return nil
		}),
	)
	for _, q := range qs {
		err = errors.Join(err, dumpQueue(s, st, q.ID))
	}
	return st, err
}

func dumpQueue(s *Store, st state, q uint32) error {
	put := func(key string, v any) { st[fmt.Sprintf("queue %d: %s", q, key)] = fmt.Sprintf("%+v", v) }
	c, err := s.Counters(q)
	put("counters", c)
	err = errors.Join(err,
		s.Acks(q, func(n uint64, a *record.AckSet) error { put(fmt.Sprint("acks ", n), a.Words()); return nil }),
		s.Attempts(q, func(n uint64, a record.Attempt) error { put(fmt.Sprint("attempt ", n), a); return nil }),
		s.Fetches(q, func(n uint64, f *record.Fetch) error { put(fmt.Sprint("fetch ", n), *f); return nil }),
	)
	ds, _, e := s.LoadDue(q, record.DelayedAt{Due: math.MinInt64}, 1<<62, 1<<30, 1<<30)
	err = errors.Join(err, e)
	for _, d := range ds {
		put(fmt.Sprint("delayed ", d.Due, d.Seq), string(record.AppendDelayed(nil, &d)))
		at, e := s.FindDelayed(q, d.ID)
		err = errors.Join(err, e)
		put("found "+d.ID, at)
	}
	blocks, e := s.LoadIndex(q, 0, 1<<30)
	err = errors.Join(err, e)
	for _, x := range blocks {
		put(fmt.Sprint("index ", x.FirstSeq), x)
		for i := range x.Entries {
			seq := x.FirstSeq + uint64(i)
			m, e := s.Message(q, x.FirstSeq, seq)
			if err = errors.Join(err, e); e == nil {
				put(fmt.Sprint("message ", seq), string(record.AppendMessage(nil, m)))
			}
		}
	}
	return errors.Join(err, dumpSeen(s, st, q))
}

func dumpSeen(s *Store, st state, q uint32) (err error) {
	for bucket := range int64(4) {
		for id := range 8 {
			seen, e := s.Seen(q, bucket, bucket, fmt.Sprint("id", id))
			if err = errors.Join(err, e); seen {
				st[fmt.Sprintf("queue %d: seen %d %d", q, bucket, id)] = "true"
			}
		}
	}
	return err
}

// diff returns a line that differs, or "".
func diff(want, got state) string {
	for k, v := range want {
		if got[k] != v {
			return fmt.Sprintf("%s:\nhave %.300q\nwant %.300q", k, got[k], v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			return fmt.Sprintf("%s should not be there", k)
		}
	}
	return ""
}

// scribbler makes random batches. Every batch writes all of its parts with
// one stamp, so that half of a batch would show.
type scribbler struct {
	rng  *rand.Rand
	next map[uint32]uint64
	n    int64
}

func newScribbler(seed int64) *scribbler {
	return &scribbler{rng: rand.New(rand.NewPCG(uint64(seed), 0)), next: map[uint32]uint64{}}
}

func (g *scribbler) fill(b *Batch) {
	g.n++
	if g.n == 1 {
		b.PutExchange(&queuedriver.Exchange{Name: "x", Kind: queuedriver.Topic})
		b.PutBinding(&queuedriver.Binding{Exchange: "x", Queue: "q1", Key: "#", Args: queuedriver.Headers{"a": []byte("b")}})
		for q := uint32(1); q <= 2; q++ {
			b.PutQueue(&record.Queue{ID: q, Spec: queuedriver.Queue{Name: fmt.Sprint("q", q), Lease: time.Second}})
		}
	}
	if g.rng.IntN(4) == 0 {
		b.ReserveTokens(uint64(g.n) << 20)
	}
	name := fmt.Sprint("lock", g.rng.IntN(5))
	if g.rng.IntN(4) == 0 {
		b.DeleteLock(name)
	} else {
		b.PutLock(name, &record.Lock{Mode: lockdriver.Shared, Permits: 1, Grants: []record.LockGrant{{Holder: "h", Token: 7, TTL: time.Duration(g.n), Meta: map[string]string{"a": "b"}}}})
	}
	for q := uint32(1); q <= 2; q++ {
		g.queue(b, q)
	}
}

func (g *scribbler) queue(b *Batch, q uint32) {
	if g.next[q] == 0 {
		g.next[q] = 4000 // so that a border of segments comes soon
	}
	first := g.next[q]
	msgs := make([]record.Message, 1+g.rng.IntN(20))
	for i := range msgs {
		body := make([]byte, g.rng.IntN(300))
		for i := range body {
			body[i] = byte(g.rng.Uint32())
		}
		msgs[i] = message(fmt.Sprintf("%d/%x", g.n, body))
	}
	b.Append(q, first, g.n, record.SplitBlocks(first, g.n, msgs))
	g.next[q] += uint64(len(msgs))
	pick := func() uint64 { return 4000 + uint64(g.rng.Int64N(int64(g.next[q]-4000))) }
	b.Ack(q, []record.Run{{From: pick(), Len: uint32(1 + g.rng.IntN(200))}, {From: pick(), Len: 1}})
	b.PutAttempt(q, pick(), record.Attempt{Count: uint32(g.n), LastToken: 9, NotBefore: 1})
	b.DeleteAttempt(q, pick())
	b.PutFetch(q, pick(), &record.Fetch{Consumer: "c", TTL: time.Duration(g.n), FirstToken: 3, Seqs: []uint64{pick(), pick()}})
	b.DeleteFetch(q, pick())
	m := message(fmt.Sprint("later ", g.n))
	b.PutDelayed(q, &record.Delayed{Due: int64(pick()), Seq: uint64(g.n), Message: m})
	b.PutSeen(q, g.rng.Int64N(4), fmt.Sprint("id", g.rng.IntN(8)))
	if g.n%7 == 0 {
		b.DropSeen(q, 2)
		b.DropDelayed(q)
		b.PutSeen(q, g.rng.Int64N(4), fmt.Sprint("id", g.rng.IntN(8)))
	}
	b.PutCounters(q, &record.Counters{NextSeq: g.next[q], Published: g.n})
}

func TestStoreRoundTrip(t *testing.T) {
	for _, memory := range []bool{false, true} {
		o := diskOptions(storetest.NewDisk())
		if memory {
			o = Options{Memory: true}
		}
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		msgs := []record.Message{message("a"), message("b"), message("")}
		lock := &record.Lock{Permits: 1, Grants: []record.LockGrant{{Holder: "h", RequestID: "r", Token: 1 << 63, TTL: time.Minute, LockDelay: time.Second, Revoked: true}}}
		commit(t, s, func(b *Batch) {
			b.PutLock("a/b", lock)
			b.PutQueue(&record.Queue{ID: 9, Spec: queuedriver.Queue{Name: "q"}})
			b.Append(9, 4095, 5, record.SplitBlocks(4095, 5, msgs))
			b.PutDelayed(9, &record.Delayed{Due: 5, Seq: 1, Message: msgs[0]})
			b.PutDelayed(9, &record.Delayed{Due: 6, Seq: 2, Message: msgs[1]})
			b.PutSeen(9, -3, "dup")
		})
		if err := s.Locks(func(n string, l *record.Lock) error {
			if n != "a/b" || !reflect.DeepEqual(l, lock) {
				t.Errorf("lock %q is %+v", n, l)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		blocks, err := s.LoadIndex(9, 4096, 100)
		if err != nil || len(blocks) != 1 || blocks[0].FirstSeq != 4096 || len(blocks[0].Entries) != 2 || blocks[0].Published != 5 {
			t.Fatalf("LoadIndex: %+v, %v", blocks, err)
		}
		for _, first := range []uint64{4096, 0} {
			m, err := s.Message(9, first, 4096)
			if err != nil || !reflect.DeepEqual(*m, msgs[1]) {
				t.Fatalf("Message: %+v, %v", m, err)
			}
		}
		ds, next, err := s.LoadDue(9, record.DelayedAt{}, 5, 10, 10)
		if err != nil || len(ds) != 1 || next != 6 || !bytes.Equal(ds[0].Body, msgs[0].Body) {
			t.Fatalf("LoadDue: %+v, %d, %v", ds, next, err)
		}
		for bucket, want := range map[int64]bool{-3: true, -2: false} {
			if seen, err := s.Seen(9, bucket, bucket+1, "dup"); seen != (want) || err != nil {
				t.Errorf("Seen from %d: %v, %v", bucket, seen, err)
			}
		}
		if n := s.Meta().NextQueueID; n != 10 {
			t.Errorf("NextQueueID is %d", n)
		}
		commit(t, s, func(b *Batch) { b.DeleteQueue(&record.Queue{ID: 9, Spec: queuedriver.Queue{Name: "q"}}) })
		if blocks, err := s.LoadIndex(9, 0, 100); err != nil || len(blocks) > 0 {
			t.Errorf("a deleted queue has %d blocks, %v", len(blocks), err)
		}
		if n, err := s.NextDue(9); n != 0 || err != nil {
			t.Errorf("a deleted queue has a delayed message, %v", err)
		}
		closeStore(t, s)
		if err := tryCommitClosed(s); err == nil {
			t.Error("a closed store can be read")
		}
	}
}

func tryCommitClosed(s *Store) error { _, err := s.NextDue(1); return err }
