package kafka

import (
	"container/heap"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// entry is a message of this queue that was read and is not settled for good.
type entry struct {
	p          *partition
	offset     int64
	number     uint64 // in the order in which it was read
	prev, next *entry // in the partition
	lane       *lane
	behind     *entry // in the lane

	message   *driver.Message
	route     driver.Route
	published time.Time
	size      int

	state    entryState
	attempts int         // that failed; of a share group: all before this one
	bury     string      // why it is to be dead-lettered, which was not possible yet
	timer    *time.Timer // of a delay

	// While it is held.
	token         lease.Token
	ttl           time.Duration
	deadline      time.Time
	sooner, later *entry // among leases of its length

	// Of a share group.
	lock     time.Time // when the broker's ends
	renewing bool
}

type entryState uint8

const (
	blocked  entryState = iota // behind another of its key
	ready                      // in the heap
	held                       // delivered
	settling                   // its settlement is under way
	delayed                    // until its timer
	done                       // settled, or its partition is gone
)

// lane is the messages of one order key that are not done; only the first of
// them can be delivered.
type lane struct{ first, last *entry }

// enqueue puts a new entry into its lane, or in front of the consumers; mu is
// held.
func (s *source) enqueue(e *entry) {
	key := e.message.OrderKey
	if key == "" {
		s.offer(e)
		return
	}
	l := s.lanes[key]
	if l == nil {
		l = &lane{first: e, last: e}
		e.lane, s.lanes[key] = l, l
		s.offer(e)
		return
	}
	e.lane = l
	l.last.behind, l.last = e, e
}

// offer makes an entry ready; mu is held.
func (s *source) offer(e *entry) {
	if e.p.idle != nil { // it goes with its partition
		return
	}
	e.state = ready
	s.ready.add(e)
}

// pass lets the next of its key have its turn when an entry is done; mu is held.
func (s *source) pass(e *entry) {
	l := e.lane
	if l == nil {
		return
	}
	for l.first != nil && l.first.state == done {
		l.first = l.first.behind
	}
	switch {
	case l.first == nil:
		l.last = nil
		if key := e.message.OrderKey; s.lanes[key] == l {
			delete(s.lanes, key)
		}
	case l.first.state == blocked:
		s.offer(l.first)
		s.wakeAll()
	}
}

// next returns the first entry that is ready, or nil; mu is held.
func (s *source) next() *entry {
	for {
		e := s.ready.first()
		if e == nil || e.state == ready && e.p.idle == nil {
			return e
		}
		s.ready.drop()
	}
}

// again offers an entry after a delay; mu is held.
func (s *source) again(e *entry, delay time.Duration) {
	if delay <= 0 && e.bury == "" {
		s.offer(e)
		s.wakeAll()
		return
	}
	e.state = delayed
	e.timer = time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.state != delayed {
			return
		}
		e.timer = nil
		if e.bury == "" {
			s.offer(e)
			s.wakeAll()
			return
		}
		if e.p.idle != nil { // whoever gets its partition buries it
			return
		}
		e.state = settling
		e.p.held++
		s.c.work.Start(func() { s.buryAgain(e) })
	})
}

// readyEntries are entries in the order in which they were read. Most come in
// that order; those that come back, or behind another of their key, are in a heap.
type readyEntries struct {
	line []*entry
	head int // in line: of what is left
	back entryHeap
}

func (r *readyEntries) add(e *entry) {
	if n := len(r.line); n > r.head && r.line[n-1].number > e.number {
		heap.Push(&r.back, e)
		return
	}
	if r.head == len(r.line) {
		r.line, r.head = r.line[:0], 0
	}
	r.line = append(r.line, e)
}

// first returns the first entry, or nil.
func (r *readyEntries) first() *entry {
	switch inLine, inBack := r.head < len(r.line), len(r.back) > 0; {
	case inLine && (!inBack || r.line[r.head].number < r.back[0].number):
		return r.line[r.head]
	case inBack:
		return r.back[0]
	}
	return nil
}

// count returns how many there are.
func (r *readyEntries) count() (n int) {
	for _, es := range [...][]*entry{r.line[r.head:], r.back} {
		for _, e := range es {
			if e.state == ready {
				n++
			}
		}
	}
	return n
}

// drop takes the first entry out.
func (r *readyEntries) drop() {
	if len(r.back) > 0 && r.first() == r.back[0] {
		heap.Pop(&r.back)
		return
	}
	r.line[r.head] = nil
	if r.head++; r.head >= len(r.line)/2 && r.head >= lineSlack {
		n := copy(r.line, r.line[r.head:])
		clear(r.line[n:])
		r.line, r.head = r.line[:n], 0
	}
}

// sweep takes out the entries that are done.
func (r *readyEntries) sweep() {
	over := func(e *entry) bool { return e.state == done }
	r.line, r.head = slices.DeleteFunc(r.line[r.head:], over), 0
	r.back = slices.DeleteFunc(r.back, over)
	heap.Init(&r.back)
}

// lineSlack is how many places of the line are left behind at least before it
// moves up.
const lineSlack = 1024

// entryHeap is entries in the order in which they were read.
type entryHeap []*entry

// Len implements heap.Interface.
func (h entryHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h entryHeap) Less(i, j int) bool { return h[i].number < h[j].number }

// Swap implements heap.Interface.
func (h entryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *entryHeap) Push(x any) { *h = append(*h, x.(*entry)) } //nolint:forcetypeassert // heap passes what offer gave

// Pop implements heap.Interface.
func (h *entryHeap) Pop() any {
	n := len(*h) - 1
	e := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return e
}
