package lease

import "math"

// never is later than every instant.
const never = Instant(math.MaxInt64)

// Which of a Held's keys and slots a heap uses.
const (
	deadlineKey = iota
	renewalKey
)

// heldHeap is a heap of leases by one of their keys. Each lease knows its slot,
// so that it can be moved and removed.
type heldHeap[R any] struct {
	items []*Held[R]
	which int
}

// top returns the lease with the least key, nil if there is none.
func (q *heldHeap[R]) top() *Held[R] {
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0]
}

// put adds h, or moves it if it is there.
func (q *heldHeap[R]) put(h *Held[R], key Instant) {
	h.keys[q.which] = key
	if h.slots[q.which] < 0 {
		h.slots[q.which] = len(q.items)
		q.items = append(q.items, h)
	}
	q.fix(h.slots[q.which])
}

// remove takes h out if it is in.
func (q *heldHeap[R]) remove(h *Held[R]) {
	i := h.slots[q.which]
	if i < 0 {
		return
	}
	last := len(q.items) - 1
	q.swap(i, last)
	q.items[last] = nil
	q.items = q.items[:last]
	h.slots[q.which] = -1
	if i < last {
		q.fix(i)
	}
}

// fix restores the order around slot i.
func (q *heldHeap[R]) fix(i int) {
	for i > 0 && q.less(i, (i-1)/2) {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child >= len(q.items) {
			return
		}
		if child+1 < len(q.items) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q.swap(i, child)
		i = child
	}
}

func (q *heldHeap[R]) less(i, j int) bool {
	return q.items[i].keys[q.which] < q.items[j].keys[q.which]
}

func (q *heldHeap[R]) swap(i, j int) {
	q.items[i], q.items[j] = q.items[j], q.items[i]
	q.items[i].slots[q.which] = i
	q.items[j].slots[q.which] = j
}
