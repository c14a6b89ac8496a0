package machine

import (
	"github.com/lockkeeper/lockkeeper/lease"
)

// ring is a FIFO of entries.
type ring struct {
	buf  []entry
	head int
	n    int
}

func (r *ring) len() int { return r.n }

func (r *ring) push(e entry) {
	if r.n == len(r.buf) {
		grown := make([]entry, max(64, 2*len(r.buf)))
		for i := range r.n {
			grown[i] = r.buf[(r.head+i)%len(r.buf)]
		}
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)%len(r.buf)] = e
	r.n++
}

func (r *ring) front() (entry, bool) {
	if r.n == 0 {
		return entry{}, false
	}
	return r.buf[r.head], true
}

func (r *ring) pop() {
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	if r.n == 0 && len(r.buf) > 2*ReadyWindow {
		*r = ring{} // a burst is over
	}
}

func (r *ring) clear() { *r = ring{} }

// entryHeap gives the entry with the smallest sequence number.
type entryHeap struct{ es []entry }

func (h *entryHeap) min() (entry, bool) {
	if len(h.es) == 0 {
		return entry{}, false
	}
	return h.es[0], true
}

func (h *entryHeap) push(e entry) {
	h.es = append(h.es, e)
	up(h.es, len(h.es)-1, entryLess)
}

func (h *entryHeap) pop() {
	last := len(h.es) - 1
	h.es[0] = h.es[last]
	h.es = h.es[:last]
	down(h.es, 0, entryLess)
}

func (h *entryHeap) clear() { h.es = nil }

func entryLess(a, b entry) bool { return a.seq < b.seq }

// retry is a failed message that waits for its time. One that is not waiting
// for this time any more is passed over when it comes up.
type retry struct {
	at    lease.Instant
	queue *queue
	seq   uint64
}

func (r *retry) live() bool {
	w, ok := r.queue.waiting[r.seq]
	return ok && w.at == r.at
}

// retryHeap gives the earliest retry.
type retryHeap struct {
	rs    []retry
	stale int // of them, that no message waits for
}

// minStale is how many stale retries are not worth looking for.
const minStale = 1024

// drop takes note that n messages do not wait any more though their retries
// are in the heap, and clears these out when they are most of it.
func (h *retryHeap) drop(n int) {
	h.stale += n
	if h.stale < minStale || h.stale < len(h.rs)/2 {
		return
	}
	live := h.rs[:0]
	for i := range h.rs {
		if h.rs[i].live() {
			live = append(live, h.rs[i])
		}
	}
	clear(h.rs[len(live):])
	h.rs, h.stale = live, 0
	for i := len(live)/2 - 1; i >= 0; i-- {
		down(live, i, retryLess)
	}
}

func (h *retryHeap) push(r retry) {
	h.rs = append(h.rs, r)
	up(h.rs, len(h.rs)-1, retryLess)
}

func (h *retryHeap) min() (retry, bool) {
	if len(h.rs) == 0 {
		return retry{}, false
	}
	return h.rs[0], true
}

func (h *retryHeap) pop() {
	last := len(h.rs) - 1
	h.rs[0] = h.rs[last]
	h.rs[last] = retry{}
	h.rs = h.rs[:last]
	down(h.rs, 0, retryLess)
}

func retryLess(a, b retry) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return a.seq < b.seq
}

func up[T any](s []T, i int, less func(a, b T) bool) {
	for i > 0 {
		p := (i - 1) / 2
		if !less(s[i], s[p]) {
			return
		}
		s[i], s[p] = s[p], s[i]
		i = p
	}
}

func down[T any](s []T, i int, less func(a, b T) bool) {
	for {
		c := 2*i + 1
		if c >= len(s) {
			return
		}
		if c+1 < len(s) && less(s[c+1], s[c]) {
			c++
		}
		if !less(s[c], s[i]) {
			return
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}

// fetchHeap orders fetches by when the first of their deliveries may end. A
// fetch knows its place, so that one that is done leaves at once.
type fetchHeap struct{ fs []*fetch }

func (h *fetchHeap) min() *fetch {
	if len(h.fs) == 0 {
		return nil
	}
	return h.fs[0]
}

func (h *fetchHeap) push(f *fetch) {
	f.index = len(h.fs)
	h.fs = append(h.fs, f)
	h.up(f.index)
}

func (h *fetchHeap) remove(f *fetch) {
	last := len(h.fs) - 1
	i := f.index
	h.swap(i, last)
	h.fs[last] = nil
	h.fs = h.fs[:last]
	f.index = -1
	if i < last {
		h.fix(h.fs[i])
	}
}

func (h *fetchHeap) fix(f *fetch) {
	h.up(f.index)
	h.down(f.index)
}

func (h *fetchHeap) less(i, j int) bool { return h.fs[i].at < h.fs[j].at }

func (h *fetchHeap) swap(i, j int) {
	h.fs[i], h.fs[j] = h.fs[j], h.fs[i]
	h.fs[i].index, h.fs[j].index = i, j
}

func (h *fetchHeap) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *fetchHeap) down(i int) {
	for {
		c := 2*i + 1
		if c+1 < len(h.fs) && h.less(c+1, c) {
			c++
		}
		if c >= len(h.fs) || !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

// receiverList is the FIFO of receivers that wait, from which one can leave.
type receiverList struct {
	first, last *Receive
	n           int
}

func (l *receiverList) push(r *Receive) {
	l.n++
	r.prev, r.next = l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
}

func (l *receiverList) remove(r *Receive) {
	l.n--
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// earliest returns when the first of a fetch's live deliveries may end.
func (f *fetch) earliest() lease.Instant {
	var at lease.Instant
	for i := range f.flights {
		if d := &f.flights[i]; d.fetch != nil && (at == 0 || d.deadline < at) {
			at = d.deadline
		}
	}
	return at
}

// wallTimer is when something of a queue happens by the wall clock.
type wallTimer struct {
	at    int64 // 0: never
	index int   // in the heap; -1: not in it
}

// The timers of a queue.
const (
	dueTimer    = iota // the next scheduled message is due
	expiryTimer        // the next message times out
	timersOfQueue
)

// dueHeap orders queues by one of their timers.
type dueHeap struct {
	qs    []*queue
	timer int
}

func (h *dueHeap) at(i int) int64 { return h.qs[i].timers[h.timer].at }

func (h *dueHeap) min() *queue {
	if len(h.qs) == 0 {
		return nil
	}
	return h.qs[0]
}

// set gives q its place by due; 0 takes it out.
func (h *dueHeap) set(q *queue, due int64) {
	t := &q.timers[h.timer]
	t.at = due
	if t.index < 0 {
		if due == 0 {
			return
		}
		t.index = len(h.qs)
		h.qs = append(h.qs, q)
	}
	i := t.index
	if due == 0 {
		last := len(h.qs) - 1
		h.swap(i, last)
		h.qs[last] = nil
		h.qs = h.qs[:last]
		t.index = -1
		if i == last {
			return
		}
	}
	h.fix(i)
}

func (h *dueHeap) fix(i int) {
	for i > 0 && h.at(i) < h.at((i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		c := 2*i + 1
		if c+1 < len(h.qs) && h.at(c+1) < h.at(c) {
			c++
		}
		if c >= len(h.qs) || h.at(c) >= h.at(i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h *dueHeap) swap(i, j int) {
	h.qs[i], h.qs[j] = h.qs[j], h.qs[i]
	h.qs[i].timers[h.timer].index, h.qs[j].timers[h.timer].index = i, j
}
