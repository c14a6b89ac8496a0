package machine

import (
	"slices"
	"time"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockClaim is what is kept of a request.
type lockClaim struct {
	holder    string
	within    []string
	requestID string
	mode      lockdriver.Mode
	ttl       time.Duration
	lockDelay time.Duration
	meta      map[string]string
	value     []byte
}

func claimOf(r *lockdriver.Request) lockClaim {
	return lockClaim{
		holder: r.Holder, within: r.Within, requestID: r.ID,
		mode: r.Mode, ttl: r.TTL, lockDelay: r.LockDelay, meta: r.Meta, value: r.Value,
	}
}

// lockLine is the line of a name, in order of the places' numbers.
//
// It is a sorted slice of which the head moves: pushing at the end and
// popping at the head are O(1), finding a place O(log n). A place that is
// left, or that a returning ticket takes in the middle, moves pointers that
// lie together, at most 80 kB of them at MaxWaitersPerName, which costs less
// than the pointers of a tree would.
type lockLine struct {
	places   []*lockWaiter // [first:] are the line
	first    int
	byHolder map[string]*lockWaiter
	several  []*lockWaiter // those of the line that wait for several names, in its order
}

func (l *lockLine) len() int { return len(l.places) - l.first }

func (l *lockLine) head() *lockWaiter {
	if l.len() == 0 {
		return nil
	}
	return l.places[l.first]
}

// all returns the line, the head first. It is not to be kept or changed.
func (l *lockLine) all() []*lockWaiter { return l.places[l.first:] }

// index returns where the place seq is, or would be, counted from the head.
func (l *lockLine) index(seq uint64) int {
	i, _ := findPlace(l.all(), seq)
	return i
}

func findPlace(places []*lockWaiter, seq uint64) (int, bool) {
	return slices.BinarySearchFunc(places, seq, func(w *lockWaiter, seq uint64) int {
		switch {
		case w.seq < seq:
			return -1
		case w.seq > seq:
			return 1
		}
		return 0
	})
}

func (l *lockLine) insert(w *lockWaiter) {
	if l.byHolder == nil {
		l.byHolder = make(map[string]*lockWaiter)
	}
	l.byHolder[w.holder] = w
	if len(w.names) > 1 {
		i, _ := findPlace(l.several, w.seq)
		l.several = slices.Insert(l.several, i, w)
	}
	if n := len(l.places); l.len() == 0 || l.places[n-1].seq < w.seq {
		l.places = append(l.places, w)
		return
	}
	l.places = slices.Insert(l.places, l.first+l.index(w.seq), w)
}

func (l *lockLine) remove(w *lockWaiter) {
	delete(l.byHolder, w.holder)
	if len(w.names) > 1 {
		i, _ := findPlace(l.several, w.seq)
		l.several = slices.Delete(l.several, i, i+1)
	}
	i := l.index(w.seq)
	assert(i < l.len() && l.all()[i] == w, "a waiter that leaves was in the line")
	if i > 0 {
		l.places = slices.Delete(l.places, l.first+i, l.first+i+1)
		return
	}
	l.places[l.first] = nil
	l.first++
	if l.first > 32 && l.first > len(l.places)/2 {
		l.places = slices.Delete(l.places, 0, l.first)
		l.first = 0
	}
}
