package store

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

// waitModel is what of two queues is delayed, and changes the store alike.
type waitModel struct {
	rng  *rand.Rand
	now  int64
	seq  uint64
	lies [3]map[record.DelayedAt]string // by queue
}

func newWaitModel(seed uint64) *waitModel {
	m := &waitModel{rng: rand.New(rand.NewPCG(seed, 0)), now: 1_700_000_000_000_000_000}
	for q := range m.lies {
		m.lies[q] = map[record.DelayedAt]string{}
	}
	return m
}

const idsThatWait = 30

func (m *waitModel) fill(b *Batch) {
	for range 1 + m.rng.IntN(4) {
		q := 1 + m.rng.Uint32N(2)
		lies := m.lies[q]
		switch n := m.rng.IntN(100); {
		case n < 3:
			b.DropDelayed(q)
			clear(lies)
		case n < 4:
			b.DeleteQueue(&record.Queue{ID: q})
			clear(lies)
		case n < 30:
			m.comeDue(b, q)
		case n < 40:
			m.cancel(b, q)
		case n < 43:
			m.now -= m.rng.Int64N(int64(time.Hour)) // the clock is set back
		default:
			for range m.rng.IntN(2 * waitChunk / 3) {
				m.put(b, q)
			}
		}
	}
}

// put delays a message for a time of any magnitude.
func (m *waitModel) put(b *Batch, q uint32) {
	m.seq++
	wait := 1 + m.rng.Int64N(1<<(20+m.rng.IntN(43)))
	d := delayedOf(m.now+min(wait, math.MaxInt64-m.now-1), m.seq, "")
	d.Published = m.now
	if n := m.rng.IntN(10 * idsThatWait); n < idsThatWait {
		d.ID = fmt.Sprint("id", n)
	} else if n%2 == 0 {
		d.ID = fmt.Sprint("other", m.seq)
	}
	b.PutDelayed(q, d)
	m.lies[q][record.DelayedAt{Due: d.Due, Seq: d.Seq}] = d.ID
}

// comeDue lets some time pass.
func (m *waitModel) comeDue(b *Batch, q uint32) {
	m.now += m.rng.Int64N(1 << (30 + m.rng.IntN(25)))
	first := int64(math.MaxInt64)
	for at, id := range m.lies[q] {
		if at.Due > m.now {
			first = min(first, at.Due)
			continue
		}
		b.DeleteDelayed(q, at, id)
		delete(m.lies[q], at)
	}
	b.PassDelayed(q, first)
}

func (m *waitModel) cancel(b *Batch, q uint32) {
	id := fmt.Sprint("id", m.rng.IntN(idsThatWait))
	for at, x := range m.lies[q] {
		if x == id {
			b.DeleteDelayed(q, at, id)
			delete(m.lies[q], at)
		}
	}
}

func (m *waitModel) check(t *testing.T, s *Store) {
	t.Helper()
	for q := range m.lies {
		want := map[string][]record.DelayedAt{}
		for at, id := range m.lies[q] {
			want[id] = append(want[id], at)
		}
		for n := range idsThatWait {
			id := fmt.Sprint("id", n)
			slices.SortFunc(want[id], func(x, y record.DelayedAt) int {
				if x.Before(y) {
					return -1
				}
				return 1
			})
			got, err := s.FindDelayed(uint32(q), id)
			if err != nil || !reflect.DeepEqual(got, want[id]) {
				t.Fatalf("%s of queue %d lies at %v, want %v (%v)", id, q, got, want[id], err)
			}
		}
	}
	checkWaitBytes(t, s)
}

// checkWaitBytes checks that the memory of the sets is counted.
func checkWaitBytes(t *testing.T, s *Store) {
	t.Helper()
	sum := 0
	for _, bs := range s.waits.queues {
		for _, b := range bs {
			sum += waitsBytes
			for i := range b.pieces {
				sum += pieceBytes + sizeOf(&b.pieces[i].ids)
			}
		}
	}
	if sum != s.waits.bytes {
		t.Fatalf("%d bytes, counted %d", sum, s.waits.bytes)
	}
}

// TestWaiting compares where delayed messages lie with a map, over messages
// that wait for nanoseconds and for centuries, cancels, times that pass, clocks
// that are set back, purges, deletes of queues, closes and crashes, with memory
// for all, for some and for none, and while those of an open are being entered.
func TestWaiting(t *testing.T) {
	t.Parallel()
	for seed := range uint64(9 / thinning) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			m := newWaitModel(seed)
			disk := storetest.NewDisk()
			s := openDisk(t, disk)
			for range 40 {
				for range 1 + m.rng.IntN(3) {
					commit(t, s, m.fill)
				}
				if m.rng.IntN(3) > 0 {
					m.check(t, s)
				}
				switch m.rng.IntN(10) {
				case 0:
					closeStore(t, s)
					s = openDisk(t, disk)
				case 1:
					crashed := disk.Crash(m.rng.IntN(101), m.rng.Int64())
					closeStore(t, s)
					disk = crashed
					s = openDisk(t, disk)
				case 2:
					b := s.NewBatch()
					given := *m
					for q := range given.lies {
						given.lies[q] = map[record.DelayedAt]string{}
					}
					given.fill(b)
					b.Discard()
				case 3:
					s.waits.mu.Lock()
					s.waits.limit = m.rng.IntN(2*s.waits.bytes + 1)
					s.waits.mu.Unlock()
				}
			}
			m.check(t, s)
			closeStore(t, s)
		})
	}
}

// A message lies in a bucket that is not over before it is due, and that is
// over soon after that: not later than it had to wait, or than the narrowest
// bucket is wide.
func TestWaitBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		published := rng.Int64N(1<<62) - 1<<61
		wait := rng.Int64N(1 << rng.IntN(61))
		due := published + wait
		b := bucketOf(published, due)
		if b.over(due) || b.over(due-1) {
			t.Fatalf("%d is in %+v, which is over before", due, b)
		}
		if after := due + max(wait, int64(minBucket)); !b.over(after) {
			t.Fatalf("%d is in %+v, which is not over at %d", due, b, after)
		}
	}
	for _, due := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
		for _, published := range []int64{math.MinInt64, 0, math.MaxInt64} {
			if b := bucketOf(published, due); due < math.MaxInt64 && b.over(due) || !b.over(math.MaxInt64) {
				t.Errorf("published %d, due %d: %+v", published, due, b)
			}
		}
	}
}

// What many delayed messages cost is what few cost: each is one key, and the
// index has few more, each behind those of the batches before it, so that no
// table has to be merged with others. An id is looked for in a number of
// records that does not grow. When they come due no key of the index is
// deleted alone, and nothing of it is left.
func TestDelayedIsFlat(t *testing.T) {
	const batch, batches = 500, 80
	s, err := Open(Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	var last []byte
	var all []*record.Delayed
	for i := range batches {
		b := s.NewBatch()
		for range batch {
			d := delayedOf(int64(time.Hour), uint64(len(all)), fmt.Sprint("id", len(all)))
			b.PutDelayed(1, d)
			all = append(all, d)
		}
		s.finish(b)
		if n := b.b.Count(); n > batch+3 {
			t.Fatalf("%d messages are %d keys", batch, n)
		}
		index := keysOf(t, b, keyWaiting)
		if len(index) != 1 || bytes.Compare(index[0], last) <= 0 {
			t.Fatalf("batch %d: the keys of the index are %x, the last one was %x", i, index, last)
		}
		last = index[0]
		p, err := s.Apply(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*record.Delayed{all[0], all[len(all)/2], all[len(all)-1]} {
			spans, err := s.waits.find(1, hash128([]byte(d.ID)))
			if err != nil || len(spans) != 1 {
				t.Fatalf("%s may be in %d places: %v", d.ID, len(spans), err)
			}
			ids := 0
			if err := s.scan(spans[0].lower, spans[0].upper, func(_, value []byte) error {
				ws, err := record.DecodeWaiting(value)
				ids += len(ws)
				return err
			}); err != nil || ids > maxTags {
				t.Fatalf("%d ids are read to find one: %v", ids, err)
			}
			wantDelayed(t, s, 1, d.ID, record.DelayedAt{Due: d.Due, Seq: d.Seq})
		}
	}
	b := s.NewBatch()
	for _, d := range all {
		b.DeleteDelayed(1, record.DelayedAt{Due: d.Due, Seq: d.Seq}, d.ID)
	}
	b.PassDelayed(1, math.MaxInt64)
	s.finish(b)
	if n := b.b.Count(); int(n) > len(all)+3 {
		t.Fatalf("%d messages come due by %d keys", len(all), n)
	}
	if _, err := s.Apply(b); err != nil {
		t.Fatal(err)
	}
	if n := countKind(t, s, keyWaiting); n != 0 || s.waits.bytes != 0 {
		t.Errorf("%d records and %d bytes of the index are left", n, s.waits.bytes)
	}
}

// keysOf returns the keys of one kind that a batch puts.
func keysOf(t *testing.T, b *Batch, kind byte) (keys [][]byte) {
	t.Helper()
	r := b.b.Reader()
	for {
		_, key, _, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return keys
		}
		if key[0] == kind {
			keys = append(keys, slices.Clone(key))
		}
	}
}

func countKind(t *testing.T, s *Store, kind byte) (n int) {
	t.Helper()
	if err := s.scan([]byte{kind}, []byte{kind + 1}, func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A queue with a message now and then deletes no range for each: the records
// stay until their bucket is over, or has become worth it.
func TestFewWaitingStay(t *testing.T) {
	s := openDisk(t, storetest.NewDisk())
	defer closeStore(t, s)
	seq := uint64(0)
	one := func(now int64) int {
		seq++
		d := delayedOf(now+1, seq, fmt.Sprint("id", seq))
		d.Published = now
		commit(t, s, func(b *Batch) { b.PutDelayed(1, d) })
		commit(t, s, func(b *Batch) {
			b.DeleteDelayed(1, record.DelayedAt{Due: d.Due, Seq: d.Seq}, d.ID)
			b.PassDelayed(1, math.MaxInt64)
		})
		wantDelayed(t, s, 1, d.ID)
		checkWaitBytes(t, s)
		return countKind(t, s, keyWaiting)
	}
	for i := 1; i < smallBucket; i++ {
		if n := one(5); n != i {
			t.Fatalf("%d records after %d messages", n, i)
		}
	}
	if n := one(5); n != 0 {
		t.Fatalf("%d records after %d messages", n, smallBucket)
	}
	if n := one(5); n != 1 {
		t.Fatalf("%d records", n)
	}
	later := int64(minBucket)
	commit(t, s, func(b *Batch) {
		d := delayedOf(later+5, 1<<20, "later")
		d.Published = later
		b.PutDelayed(1, d)
		b.PassDelayed(1, later)
	})
	if n := countKind(t, s, keyWaiting); n != 1 {
		t.Fatalf("%d records when the first bucket is over", n)
	}
	wantDelayed(t, s, 1, "later", record.DelayedAt{Due: later + 5, Seq: 1 << 20})
}

// A record that is damaged hides no others, and its queue says so of ids that
// are not found.
func TestDamagedWaiting(t *testing.T) {
	d := storetest.NewDisk()
	s := openDisk(t, d)
	commit(t, s, func(b *Batch) { b.PutDelayed(1, delayedOf(5, 1, "a")) })
	commit(t, s, func(b *Batch) {
		b.PutDelayed(1, delayedOf(5, 2, "b"))
		b.PutDelayed(2, delayedOf(5, 3, "c"))
	})
	rewrite(t, s, appendWaitingKey(nil, 1, bucketOf(0, 5), 1))
	closeStore(t, s)
	s = openDisk(t, d)
	defer closeStore(t, s)
	if at, err := s.FindDelayed(1, "a"); len(at) > 0 || err == nil {
		t.Errorf("of the damaged record: %v, %v", at, err)
	}
	wantDelayed(t, s, 1, "b", record.DelayedAt{Due: 5, Seq: 2})
	wantDelayed(t, s, 2, "c", record.DelayedAt{Due: 5, Seq: 3})
	wantDelayed(t, s, 2, "d")
	commit(t, s, func(b *Batch) { b.DropDelayed(1) })
	wantDelayed(t, s, 1, "a")
}
