package machine

import (
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// bucketCounter counts the buckets that are searched for an id.
type bucketCounter struct {
	View
	searched int64
}

func (v *bucketCounter) Seen(q uint32, from, to int64, id string) (bool, error) {
	v.searched += to - from + 1
	return v.View.Seen(q, from, to, id)
}

// An id is searched in those buckets of its window only that can have any: one
// at first, and one more with each that is over. After an open nothing is
// known, so it is all of them. Ids of the window are found all the while.
func TestDedupSearchesFewBuckets(t *testing.T) {
	const window = 30 * time.Second
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", DedupWindow: window}}})
	look := func(id string) (searched int64, duplicate bool) {
		view := &bucketCounter{View: h.store}
		c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{ID: id}}}}
		h.round(func() { h.m.Publish(h.now, h.store, view, c) })
		return view.searched, c.Receipts[0].Duplicate
	}
	for i := range 6 {
		want := int64(min(i, dedupBuckets) + 1)
		if n, dup := look(string(rune('a' + i))); n != want || dup {
			t.Errorf("bucket %d: searched %d, want %d; duplicate %v", i, n, want, dup)
		}
		if _, dup := look(string(rune('a' + max(0, i-2)))); !dup {
			t.Errorf("bucket %d: an id of two buckets before is not known", i)
		}
		h.pass(window / dedupBuckets)
	}
	h.m = h.store.reopen(h.now, defaultLimits)
	if n, dup := look("f"); n != dedupBuckets+1 || !dup {
		t.Errorf("after an open: searched %d, duplicate %v", n, dup)
	}
}
