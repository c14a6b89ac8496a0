package machine

import (
	"math"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Bounds on what a queue keeps in memory. Past them it delivers no more until
// there is room again; it never refuses or forgets a message for them.
const (
	ReadyWindow = 8192      // entries loaded ahead of the deliveries
	ReadyLow    = 1024      // when more are loaded
	MaxParked   = 1_000_000 // messages that wait for their key's turn
	MaxInFlight = 100_000   // deliveries leased at once
	MaxAttempts = 1_000_000 // messages that have failed before and are not gone
)

// queueLimits are the bounds above; tests have smaller ones.
type queueLimits struct{ window, low, parked, inFlight, attempts int }

var defaultLimits = queueLimits{ReadyWindow, ReadyLow, MaxParked, MaxInFlight, MaxAttempts}

// queue is the state of one queue. The messages lie in the store; here is
// what decides which is next:
//
//	store --(window)--> ready --> flights --> acked
//	                      |          |
//	                   parked     waiting (for their time) --> returned --> flights
//
// A keyed message is parked while another of its key is not done; a message
// that comes back (its time came, it was handed back, its lease ran out, it
// is the first parked of a key whose turn came) is in returned. The smaller
// number of ready and returned goes first. Each priority has its own window
// and ready, see level.
type queue struct {
	id       uint32
	spec     queuedriver.Queue
	limits   *queueLimits
	counters record.Counters
	written  record.Counters // as the store has them
	lower    []record.Level  // the counters of the levels behind the first
	leading  bindingList     // from exchanges

	segments map[uint64]*segment
	levels   []level
	returned entryHeap
	lanes    map[uint64]*lane // by hash of the key, while one is taken
	parked   int
	flights  map[uint64]*flight
	attempts map[uint64]record.Attempt
	waiting  map[uint64]waiter // failed ones whose time has not come
	timers   [timersOfQueue]wallTimer
	delays   delayedRound

	stream     *stream          // nil: the messages are leased
	dueFrom    record.DelayedAt // no scheduled message that can be read lies before it
	blockedDue int64            // when the first that waits for room was due; 0: none does
	heads      headHeap         // see dropHeads
	stuck      bool             // it is past its bounds and cannot drop
	lazy       int              // gone, but perhaps still in a window
	expiries   expiryHeap
	unread     bool             // the store could not read its index the last time
	late       map[uint64]int64 // timed out, since when, but cannot be dead-lettered

	line      consumerList // those that wait
	polls     int          // receives that do not wait for long
	consumers map[string]*consumer
	active    *consumer     // of a queue with a single active one; nil: the next to come
	watch     watchSlot     // if it is watched
	used      lease.Instant // when it last had a consumer, or was declared
	attended  bool          // it has had a consumer
	owner     *connection   // of an exclusive queue
	orphaned  bool          // the owner is gone
	swept     lease.Instant // when its consumers were

	// What the round has to write.
	pending      []record.Message // published, not yet sealed into blocks
	acked        []uint64
	deadBodies   []uint64
	runs         []record.Run
	lowerWritten []record.Level      // as the store has them
	seen         map[string]struct{} // ids published in this round
	seenFrom     int64               // no id is in a bucket before this one: each that is looked into costs a search
	seenSince    lease.Instant       // when the newest bucket of ids began
	known        bool                // the id that is looked at is a duplicate
	touched      bool
	hungry       bool // to be looked at, and fed if need be, at the next Tick
	deleted      bool
	failed       error // the store cannot read its index
	mark         uint64
}

// entry is a message that can be delivered.
type entry struct {
	seq  uint64
	hash uint64 // of its key; 0: none
	size uint32

	mortal bool // has a TTL
}

// waiter is a message that waits for its time on the Mono clock.
type waiter struct {
	entry
	at lease.Instant
}

// lane is a key that is being handled: the message whose turn it is, and
// those that wait.
type lane struct {
	owner  uint64
	parked []entry
}

// flight is a live delivery.
type flight struct {
	entry
	token    lease.Token
	deadline lease.Instant
	attempt  uint32
	late     bool // its time was over while it was in flight
	loaded   bool // false: restored, and the window has not come by yet
	fetch    *fetch
}

// fetch is a set of flights that began together and share a record.
type fetch struct {
	id       uint64
	queue    *queue
	consumer *consumer // nil: not remembered
	rec      record.Fetch
	flights  []flight
	live     int
	at       lease.Instant // when the first of them may end
	index    int           // in the heap
}

func (m *Queues) newQueue(id uint32, spec *queuedriver.Queue) *queue {
	q := &queue{
		limits:    &m.limits,
		id:        id,
		spec:      *spec,
		counters:  record.Counters{NextSeq: 1, NextDelayed: 1, NextFetch: 1},
		segments:  make(map[uint64]*segment),
		lanes:     make(map[uint64]*lane),
		flights:   make(map[uint64]*flight),
		attempts:  make(map[uint64]record.Attempt),
		waiting:   make(map[uint64]waiter),
		timers:    [timersOfQueue]wallTimer{{index: -1}, {index: -1}},
		consumers: make(map[string]*consumer),
		seen:      make(map[string]struct{}),
	}
	q.dueFrom.Due = math.MinInt64
	q.makeLevels()
	if spec.Type == queuedriver.Stream {
		q.stream = newStream()
	}
	q.watch = watchSlot{queue: q, index: -1}
	return q
}

// ttl returns the lease that a receiver gets.
func (q *queue) ttl(r *queuedriver.ReceiveRequest) time.Duration {
	if r.Lease > 0 {
		return r.Lease
	}
	return q.spec.Lease
}

// laneDone ends the turn of message seq of a key: the next parked one's
// begins.
func (q *queue) laneDone(hash, seq uint64) {
	if hash == 0 {
		return
	}
	l := q.lanes[hash]
	if l == nil || l.owner != seq {
		return
	}
	if len(l.parked) == 0 {
		delete(q.lanes, hash)
		return
	}
	next := l.parked[0]
	l.parked = l.parked[1:]
	q.parked--
	l.owner = next.seq
	q.returned.push(next)
}

// take gives the turn of e's key to e. It reports false if another has it.
func (q *queue) take(e entry) bool {
	if e.hash == 0 {
		return true
	}
	l := q.lanes[e.hash]
	if l == nil {
		q.lanes[e.hash] = &lane{owner: e.seq}
		return true
	}
	return l.owner == e.seq
}

// peek returns the next entry to look at, and where it comes from.
func (q *queue) peek() (e entry, returned, ok bool) {
	r, rok := q.returned.min()
	w, hidden, wok := q.front()
	switch {
	case rok && r.seq < hidden && (!wok || r.seq < w.seq):
		return r, true, true
	case wok:
		return w, false, true
	}
	return entry{}, false, false
}

func (q *queue) pop(e entry, returned bool) {
	if returned {
		q.returned.pop()
	} else {
		q.level(e.seq).ready.pop()
	}
}

// next returns the next message to deliver and takes it and its key's turn.
// ok is false if there is none now. exhausted is true for one that is to be
// dead-lettered instead. taken is how many the caller has taken and not yet
// leased.
func (q *queue) next(now Time, retries *retryHeap, taken int) (e entry, exhausted, ok bool) {
	for {
		e, returned, ok := q.peek()
		if !ok {
			return entry{}, false, false
		}
		if q.ended(e.seq) {
			q.pop(e, returned)
			q.laneDone(e.hash, e.seq)
			continue
		}
		if f := q.flights[e.seq]; f != nil { // restored
			q.pop(e, returned)
			f.entry, f.loaded = e, true
			q.take(e)
			continue
		}
		if !returned && q.attemptsFull(e.seq, taken) {
			return q.nextReturned()
		}
		if !q.take(e) {
			if q.parked >= q.limits.parked {
				return q.nextReturned()
			}
			q.pop(e, returned)
			l := q.lanes[e.hash]
			l.parked = append(l.parked, e)
			q.parked++
			continue
		}
		q.pop(e, returned)
		a := q.attempts[e.seq]
		if !returned && a.NotBefore > now.Wall { // restored
			q.wait(e, a.NotBefore, now, retries)
			continue
		}
		return e, q.exhausted(a.Count), true
	}
}

// attemptsFull reports that message seq has to wait because as many attempts
// are remembered as may be, and this one could add to them. One that has
// failed before adds nothing, and what makes room is never held up: if
// nothing else can move, this one may.
func (q *queue) attemptsFull(seq uint64, taken int) bool {
	if len(q.attempts) < q.limits.attempts {
		return false
	}
	_, counted := q.attempts[seq]
	return !counted && len(q.flights)+len(q.waiting)+len(q.returned.es)+taken > 0
}

// nextReturned serves only messages whose turn it is already, while no more
// can be parked or be new.
func (q *queue) nextReturned() (e entry, exhausted, ok bool) {
	for {
		e, ok := q.returned.min()
		if !ok {
			return entry{}, false, false
		}
		q.returned.pop()
		if q.ended(e.seq) {
			q.laneDone(e.hash, e.seq)
			continue
		}
		return e, q.exhausted(q.attempts[e.seq].Count), true
	}
}

func (q *queue) exhausted(attempts uint32) bool {
	return q.spec.DeadLetter != nil && attempts >= uint32(q.spec.DeliveryLimit)
}

// hasRoom reports whether the queue may deliver more than these.
func (q *queue) hasRoom(more int) bool {
	return len(q.flights)+more < q.limits.inFlight
}

// giveBack puts back the message of a delivery that ended without an ack.
func (q *queue) giveBack(f *flight, notBefore int64, now Time, retries *retryHeap) {
	if !f.loaded {
		return // the window will come by
	}
	if notBefore > now.Wall {
		q.wait(f.entry, notBefore, now, retries)
		return
	}
	q.returned.push(f.entry)
}

// wait has a failed message wait. Once it does, setting the wall clock does
// not change for how long; what waits over an open goes by the wall clock.
func (q *queue) wait(e entry, notBefore int64, now Time, retries *retryHeap) {
	at := now.Mono.Add(min(time.Duration(notBefore-now.Wall), queuedriver.MaxDelay))
	q.waiting[e.seq] = waiter{entry: e, at: at}
	retries.push(retry{at: at, queue: q, seq: e.seq})
}
