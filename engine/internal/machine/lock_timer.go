package machine

import "github.com/lockkeeper/lockkeeper/lease"

// lockTimer is an instant at which something about a name is due. Exactly one
// of grant and waiter is set, or neither: then the name's gate is due to open.
type lockTimer struct {
	at     lease.Instant
	place  int // in the heap, from 1; 0: not set
	name   *lockName
	grant  *lockGrant
	waiter *lockWaiter
}

// lockTimers is a binary heap of timers, the earliest first. Each timer knows
// its place, so that one can be stopped without a search.
type lockTimers struct{ heap []*lockTimer }

// earliest returns the timer that is due first, or nil.
func (h *lockTimers) earliest() *lockTimer {
	if len(h.heap) == 0 {
		return nil
	}
	return h.heap[0]
}

// set starts t, or moves it.
func (h *lockTimers) set(t *lockTimer, at lease.Instant) {
	t.at = at
	if t.place == 0 {
		h.heap = append(h.heap, t)
		t.place = len(h.heap)
	}
	h.up(t)
	h.down(t)
}

// stop takes t out; one that is not set is left alone.
func (h *lockTimers) stop(t *lockTimer) {
	if t.place == 0 {
		return
	}
	end := len(h.heap) - 1
	last := h.heap[end]
	h.heap[end] = nil
	h.heap = h.heap[:end]
	if last != t {
		last.place = t.place
		h.heap[last.place-1] = last
		h.up(last)
		h.down(last)
	}
	t.place = 0
}

func (h *lockTimers) up(t *lockTimer) {
	for t.place > 1 {
		parent := h.heap[t.place/2-1]
		if parent.at <= t.at {
			return
		}
		h.swap(parent, t)
	}
}

func (h *lockTimers) down(t *lockTimer) {
	for 2*t.place <= len(h.heap) {
		child := h.heap[2*t.place-1]
		if 2*t.place < len(h.heap) && h.heap[2*t.place].at < child.at {
			child = h.heap[2*t.place]
		}
		if t.at <= child.at {
			return
		}
		h.swap(t, child)
	}
}

func (h *lockTimers) swap(a, b *lockTimer) {
	a.place, b.place = b.place, a.place
	h.heap[a.place-1], h.heap[b.place-1] = a, b
}
