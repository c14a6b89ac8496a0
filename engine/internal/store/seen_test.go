package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// waitIDs waits until the ids of the open are entered.
func waitIDs(s *Store) {
	if s.ids.stopped != nil {
		<-s.ids.stopped
	}
}

// place is where an id can be in these tests: two queues, four buckets.
type place struct {
	q      uint32
	bucket int64
	id     int
}

func (p place) name() string { return fmt.Sprint("id", p.id) }

const idsOfBucket = 50

func everyPlace(fn func(p place)) {
	for q := range uint32(2) {
		for bucket := range int64(4) {
			for id := range idsOfBucket {
				fn(place{q + 1, bucket - 2, id})
			}
		}
	}
}

// idModel is a store's ids as a map, and changes both alike.
type idModel struct {
	rng *rand.Rand
	has map[place]bool
}

func (m *idModel) fill(b *Batch) {
	for range 1 + m.rng.IntN(40) {
		p := place{1 + m.rng.Uint32N(2), m.rng.Int64N(4) - 2, m.rng.IntN(idsOfBucket)}
		switch n := m.rng.IntN(100); {
		case n < 4:
			b.DropSeen(p.q, p.bucket)
			m.drop(func(o place) bool { return o.q == p.q && o.bucket < p.bucket })
		case n < 5:
			b.DeleteQueue(&record.Queue{ID: p.q, Spec: queuedriver.Queue{Name: "q"}})
			m.drop(func(o place) bool { return o.q == p.q })
		default:
			b.PutSeen(p.q, p.bucket, p.name())
			m.has[p] = true
		}
	}
}

func (m *idModel) drop(which func(place) bool) {
	for p := range m.has {
		if which(p) {
			delete(m.has, p)
		}
	}
}

func (m *idModel) check(t *testing.T, s *Store) {
	t.Helper()
	everyPlace(func(p place) {
		if seen, err := s.Seen(p.q, p.bucket, p.bucket, p.name()); seen != m.has[p] || err != nil {
			t.Fatalf("%v: seen %v, want %v (%v)", p, seen, m.has[p], err)
		}
	})
}

// may asks what Seen asks before it reads.
func (p place) may(d *ids) bool {
	hash := hash128([]byte(p.name()))
	return d.may(p.q, p.bucket, tagOf(hash[:]))
}

// TestSeen compares the ids of a store with a map, over puts, drops, deletes of
// queues, batches that are given up, closes and crashes, while the ids of an
// open are being entered and afterwards, with memory for all of them and not.
// Those that the sets do not have are not read.
func TestSeen(t *testing.T) {
	for seed := range uint64(30 / thinning) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := &idModel{rng: rand.New(rand.NewPCG(seed, 0)), has: map[place]bool{}}
			disk := storetest.NewDisk()
			s := openDisk(t, disk)
			for range 60 {
				commit(t, s, m.fill)
				m.check(t, s)
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
					(&idModel{rng: m.rng, has: map[place]bool{}}).fill(b)
					b.Discard()
				case 3:
					s.ids.mu.Lock()
					s.ids.limit = m.rng.IntN(2*s.ids.bytes + 1)
					s.ids.mu.Unlock()
				case 4:
					waitIDs(s)
					checkSets(t, s, m)
				}
			}
			closeStore(t, s)
		})
	}
}

// checkSets checks that the sets, as far as there is room for them, have the
// ids and no others, and that their bytes are counted.
func checkSets(t *testing.T, s *Store, m *idModel) {
	t.Helper()
	bytes := 0
	for q, bs := range s.ids.queues {
		for _, b := range bs {
			bytes += b.bytes
			if b.set != nil && b.bytes != bucketBytes+sizeOf(b.set) {
				t.Fatalf("bucket %d of queue %d has %d bytes and says %d", b.number, q, bucketBytes+sizeOf(b.set), b.bytes)
			}
			if b.set == nil {
				everyPlace(func(p place) {
					if p.q == q && p.bucket == b.number && !p.may(&s.ids) {
						t.Fatalf("%v, of a bucket without a set, is said not to be there", p)
					}
				})
				continue
			}
			everyPlace(func(p place) {
				if p.q == q && p.bucket == b.number && p.may(&s.ids) != m.has[p] {
					t.Fatalf("%v: in the set %v, want %v", p, !m.has[p], m.has[p])
				}
			})
		}
	}
	if bytes != s.ids.bytes || bytes > max(s.ids.limit, 4*bucketBytes*len(s.ids.queues)) {
		t.Fatalf("%d bytes, counted %d, the limit is %d", bytes, s.ids.bytes, s.ids.limit)
	}
	everyPlace(func(p place) {
		if m.has[p] && !p.may(&s.ids) {
			t.Fatalf("%v is not in the sets", p)
		}
	})
}

// TestSeenLoad enters what an iterator has after batches that were applied
// since it was made.
func TestSeenLoad(t *testing.T) {
	for seed := range uint64(20) {
		m := &idModel{rng: rand.New(rand.NewPCG(seed, 1)), has: map[place]bool{}}
		s := openDisk(t, storetest.NewDisk())
		for range 10 {
			commit(t, s, m.fill)
		}
		late := &ids{limit: maxIDBytes, queues: make(map[uint32][]idBucket)}
		it, err := late.begin(s.db)
		if err != nil {
			t.Fatal(err)
		}
		for range m.rng.IntN(10) {
			commit(t, s, func(b *Batch) {
				m.fill(b)
				b.writeHeld()
				late.enter(b.hashed)
			})
			everyPlace(func(p place) {
				if it != nil && !p.may(late) {
					t.Fatalf("%v is said not to be there before that is known", p)
				}
			})
		}
		if it != nil {
			late.load(it, t.Errorf)
		}
		everyPlace(func(p place) {
			if p.may(late) != m.has[p] {
				t.Fatalf("seed %d, %v: %v, want %v", seed, p, p.may(late), m.has[p])
			}
		})
		closeStore(t, s)
	}
}

// TestSeenLimit fills a set up to its last byte, and one past it. The other
// buckets keep theirs, and all get their memory back.
func TestSeenLimit(t *testing.T) {
	s := openDisk(t, storetest.NewDisk())
	defer closeStore(t, s)
	commit(t, s, func(b *Batch) {
		b.PutSeen(1, 1, "first")
		b.PutSeen(1, 2, "second")
	})
	s.ids.limit = s.ids.bytes
	first, second := &s.ids.queues[1][0], &s.ids.queues[1][1]
	n := 1
	for ; first.set.n*4 < len(first.set.tags)*3; n++ {
		commit(t, s, func(b *Batch) { b.PutSeen(1, 1, fmt.Sprint("id", n)) })
	}
	if s.ids.bytes != s.ids.limit || first.set == nil || n < minTags/2 {
		t.Fatalf("%d ids take %d bytes of %d", n, s.ids.bytes, s.ids.limit)
	}
	commit(t, s, func(b *Batch) { b.PutSeen(1, 1, "one too many") })
	if first.set != nil || second.set == nil || s.ids.bytes != second.bytes {
		t.Fatalf("past the limit: %+v, %+v, %d bytes", first, second, s.ids.bytes)
	}
	for id, want := range map[string]bool{"first": true, "second": true, "one too many": true, "id1": true, "new": false} {
		if seen, err := s.Seen(1, 0, 3, id); seen != want || err != nil {
			t.Errorf("%q: seen %v, %v", id, seen, err)
		}
	}
	commit(t, s, func(b *Batch) { b.DropSeen(1, 2) })
	if len(s.ids.queues[1]) != 1 {
		t.Errorf("after a drop: %+v", s.ids.queues[1])
	}
	commit(t, s, func(b *Batch) { b.DropSeen(1, 3) })
	if s.ids.bytes != 0 || len(s.ids.queues) != 0 {
		t.Errorf("without ids: %d bytes, %+v", s.ids.bytes, s.ids.queues)
	}
}
