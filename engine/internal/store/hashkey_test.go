package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

// What a batch keeps back happens in the order of its calls: puts, deletes and
// drops of the same keys in one batch, against a map. An empty batch is one in
// which nothing was kept back either.
func TestHashKeysKeepTheirOrder(t *testing.T) {
	s := openDisk(t, storetest.NewDisk())
	defer closeStore(t, s)
	s.waits.limit = 0 // each delayed message has a key
	rng := rand.New(rand.NewPCG(1, 2))
	has := map[string]bool{}
	for range 100 {
		commit(t, s, func(b *Batch) {
			if !b.Empty() {
				t.Error("a new batch is not empty")
			}
			for range 30 {
				id := fmt.Sprint(rng.IntN(10))
				switch n := rng.IntN(20); {
				case n == 0:
					b.DropDelayed(1)
					clear(has)
				case n < 10:
					b.PutDelayed(1, delayedOf(5, 1, id))
					has[id] = true
				default:
					b.DeleteDelayed(1, record.DelayedAt{Due: 5, Seq: 1}, id)
					delete(has, id)
				}
				if b.Empty() {
					t.Error("a batch with changes is empty")
				}
			}
		})
		for i := range 10 {
			id := fmt.Sprint(i)
			at, err := s.FindDelayed(1, id)
			if err != nil || len(at) == 1 != has[id] {
				t.Fatalf("%q lies at %v, want %v (%v)", id, at, has[id], err)
			}
		}
	}
	b := s.NewBatch()
	b.PutSeen(1, 1, "a")
	if b.Empty() || b.Bytes() < hashKeyBytes {
		t.Errorf("a batch with an id has %d bytes, empty: %v", b.Bytes(), b.Empty())
	}
	b.Discard()
}
