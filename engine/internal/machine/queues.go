package machine

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Bounds on what a store holds.
const (
	MaxQueues    = 100_000
	MaxExchanges = 10_000
)

// maxFaults bounds what Faults returns.
const maxFaults = 100

// Bounds on one round: past them what can wait is left to the next one.
const (
	roundBytes = 4 << 20 // of bodies that are copied
	roundSteps = 100_000 // bindings and ids that are looked at

	tickPart = 4 // of both is for what becomes due by itself
)

// MaxFanOutBytes bounds the copies of one message, for all the queues that it
// goes to: they are stored in one round.
const MaxFanOutBytes = 512 << 20

// readAgain is how long after an error the store is read again for what is
// due, and how soon it is looked whether the disk has room again.
const (
	readAgain = time.Minute
	roomAgain = time.Second
)

// maxDue bounds how many scheduled messages of one queue are loaded at once.
const (
	maxDue      = 1000
	maxDueBytes = roundBytes / tickPart
)

// Queues decides about exchanges, queues and messages. See the package
// comment for how it is driven.
type Queues struct {
	// Finished has the Receives that are decided; the shell takes them out.
	// Every other command is decided when its method returns.
	Finished Finished

	limits    queueLimits
	tokens    *Tokens
	exchanges map[string]*exchange
	queues    map[string]*queue
	lastID    uint32
	round     uint64 // marks the exchanges and queues that a message goes to
	routing   routing
	conns     map[uint64]*connection
	arrivals  uint64        // of consumers
	mono      lease.Instant // of this round

	fetches  fetchHeap
	retries  retryHeap
	touched  []*queue // in this round
	hungry   []*queue // to be looked at by the next Tick
	due      dueHeap  // those that have scheduled messages
	expiries dueHeap  // those that have messages with a TTL
	trims    trimHeap // streams, by when their retention is to be looked at
	leaps    leaps    // of the wall clock
	watches  watchHeap
	sorted   []string // names of queues
	faults   []error
	room     error // why nothing may grow; nil: there is room

	schedules     map[string]*recurring
	scheduleNames []string // sorted
	ticks         tickHeap
	held          []*recurring  // that wait for room
	heldUntil     lease.Instant // when it is looked for

	unwritten int // bytes of bodies that Dispatch will write
	steps     int // see roundSteps
	ticking   bool
	drops     drops

	gathered []entry // used again
	taking   []taker
}

// NewQueues returns a machine without queues; Restore fills it.
func NewQueues(tokens *Tokens) *Queues {
	return &Queues{
		limits:    defaultLimits,
		expiries:  dueHeap{timer: expiryTimer},
		tokens:    tokens,
		exchanges: make(map[string]*exchange),
		queues:    make(map[string]*queue),
		conns:     make(map[uint64]*connection),
		schedules: make(map[string]*recurring),
	}
}

// SetRoom says, before Tick, whether the disk has room: nil, or an error that
// matches lease.ErrNoSpace. While it has none, scheduled messages and dead
// letters stay where they are, for moving them copies them.
func (m *Queues) SetRoom(full error) { m.room = full }

// roundFull reports that no more work should go into this round. What becomes
// due by itself takes a part of one only, so that commands are decided however
// much is due.
func (m *Queues) roundFull() bool {
	part := 1
	if m.ticking {
		part = tickPart
	}
	return m.unwritten >= roundBytes/part || m.steps >= roundSteps/part
}

// Tick lets pass what is due: leases that ran out, retries and scheduled
// messages whose time has come; and loads what queues need for deliveries.
func (m *Queues) Tick(now Time, ch Changes, view View) {
	m.mono = now.Mono
	m.ticking = true
	for f := m.fetches.min(); f != nil && f.at < now.Mono && !m.roundFull(); f = m.fetches.min() {
		m.expire(now, ch, view, f)
	}
	for r, ok := m.retries.min(); ok && r.at <= now.Mono; r, ok = m.retries.min() {
		m.retries.pop()
		if !r.live() {
			m.retries.stale--
			continue
		}
		m.comeBack(now, ch, view, r.queue, r.seq)
	}
	for q := m.due.min(); q != nil && q.timers[dueTimer].at <= now.Wall && m.room == nil && !m.roundFull(); q = m.due.min() {
		m.loadDue(now, ch, view, q)
	}
	m.tick(now, ch, view)
	m.leaps.watch(now)
	for q := m.trims.min(); q != nil && q.stream.at <= now.Mono && !m.roundFull(); q = m.trims.min() {
		m.trim(now, ch, view, q)
	}
	m.tendAll(now, ch)
	hungry := m.hungry
	m.hungry = nil
	for _, q := range hungry {
		q.hungry = false
		m.loadIndex(view, q)
	}
	for q := m.expiries.min(); q != nil && q.timers[expiryTimer].at <= now.Wall && !m.roundFull(); q = m.expiries.min() {
		m.timeOuts(now, ch, view, q)
	}
	m.ticking = false
}

// comeBack ends the wait of a failed message. One that is to be dead-lettered
// is, also if nobody receives.
func (m *Queues) comeBack(now Time, ch Changes, view View, q *queue, seq uint64) {
	e := q.waiting[seq].entry
	delete(q.waiting, seq)
	m.touch(q)
	if a := q.attempts[seq]; q.exhausted(a.Count) && !m.roundFull() {
		f := &flight{entry: e, token: a.LastToken, attempt: a.Count, loaded: true}
		m.exhaust(now, ch, view, q, f, a, "")
		return
	}
	q.returned.push(e)
}

// Dispatch ends the round: it stores what was published, hands messages to
// waiting receivers, and writes what the round did to each queue.
func (m *Queues) Dispatch(now Time, ch Changes, view View) {
	m.drops.begin(m)
	// A delivery can dead-letter a message into a queue that was dealt with
	// already, or was not touched before: go round until none has news.
	for news := true; news; {
		news = false
		for i := 0; i < len(m.touched); i++ {
			if m.touched[i].spec.Overflow == queuedriver.DropHead {
				m.dropHeads(now, ch, view, m.touched[i])
			}
			m.seal(now, ch, m.touched[i])
			m.deliver(now, ch, view, m.touched[i])
		}
		for _, q := range m.touched {
			news = news || len(q.pending) > 0
		}
	}
	for _, q := range m.touched {
		q.touched = false
		if q.deleted {
			continue
		}
		q.flushAcks(ch)
		if q.counters != q.written {
			q.written = q.counters
			ch.PutCounters(q.id, &q.counters)
		}
		if q.counters.Mortal > 0 && !q.unread && q.starved() {
			m.feed(q) // what times out is found though nobody receives
		}
		m.setExpiry(q)
		q.writeLevels(ch)
		for i := range q.levels {
			q.levels[i].sealed = 0
		}
		if len(q.seen) > ReadyWindow { // clear costs as much as the map was ever large
			q.seen = make(map[string]struct{})
		}
		clear(q.seen)
		q.delays.endRound()
	}
	clear(m.touched)
	m.touched = m.touched[:0]
	m.unwritten, m.steps = 0, 0
}

// NextWake returns when Tick has something to do, on the Mono clock. ok is
// false if only a command can bring work.
func (m *Queues) NextWake(now Time) (at lease.Instant, ok bool) {
	earlier := func(t lease.Instant) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	if len(m.hungry) > 0 {
		earlier(now.Mono)
	}
	if f := m.fetches.min(); f != nil {
		earlier(f.at + 1)
	}
	if r, some := m.retries.min(); some {
		earlier(r.at)
	}
	if t, some := m.nextTick(now); some {
		earlier(t)
	}
	if q := m.trims.min(); q != nil {
		earlier(q.stream.at)
	}
	if q := m.expiries.min(); q != nil {
		earlier(now.Mono.Add(time.Duration(max(0, q.timers[expiryTimer].at-now.Wall))))
	}
	if len(m.watches) > 0 {
		earlier(m.watches[0].at)
	}
	if q := m.due.min(); q != nil {
		left := time.Duration(max(0, q.timers[dueTimer].at-now.Wall))
		if m.room != nil {
			left = max(left, roomAgain)
		}
		earlier(now.Mono.Add(left))
	}
	return at, ok
}

// Unwritten is about how many bytes Dispatch will write of what was published
// in this round.
func (m *Queues) Unwritten() int { return m.unwritten }

// Faults returns, once, what went wrong in reading the store: the messages
// concerned stay where they are.
func (m *Queues) Faults() []error {
	f := m.faults
	m.faults = nil
	return f
}

// fault notes that the store failed to read something of q.
func (m *Queues) fault(q *queue, err error) error {
	err = fmt.Errorf("queue %q: %w", q.spec.Name, err)
	if len(m.faults) < maxFaults {
		m.faults = append(m.faults, err)
	}
	return err
}

func (m *Queues) touch(q *queue) {
	if !q.touched {
		q.touched = true
		m.touched = append(m.touched, q)
	}
}

func (m *Queues) find(name string) (*queue, error) {
	if q := m.queues[name]; q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("queue %q: %w", name, lease.ErrNotFound)
}

// feed has a queue looked at by the next Tick.
func (m *Queues) feed(q *queue) {
	if !q.hungry {
		q.hungry = true
		m.hungry = append(m.hungry, q)
	}
}

// loadIndex fills a queue's window.
func (m *Queues) loadIndex(view View, q *queue) {
	if q.deleted {
		return
	}
	m.touch(q)
	if !q.starved() {
		return
	}
	for i := range q.levels {
		l := &q.levels[i]
		if !q.starves(l) {
			continue
		}
		if err := q.fill(view, l); err != nil {
			q.failed = m.fault(q, err) // for those who wait; the next receiver tries again
			q.unread = true
			return
		}
	}
	q.unread = false
	m.setExpiry(q)
}

// loadDue moves scheduled messages whose time has come into their queue. It
// may be called again in a round: the View still shows what was moved, but
// dueFrom is behind it. Over the rounds that saves the store from finding the
// first that is left behind all those that were deleted.
func (m *Queues) loadDue(now Time, ch Changes, view View, q *queue) {
	q.blockedDue = 0
	due, next, err := view.LoadDue(q.id, q.dueFrom, now.Wall, maxDue, maxDueBytes)
	if err != nil {
		_ = m.fault(q, err)
		if next == 0 || len(due) == 0 && next <= now.Wall {
			next = now.Wall + int64(readAgain)
		}
	}
	for i := range due {
		d := &due[i]
		m.steps += duplicateSteps
		if q.admit(&d.Message, dueNow) != nil {
			q.blockedDue, next = d.Due, 0
			if q.stuck {
				next = now.Wall + int64(readAgain)
			}
			break
		}
		q.delays.through = record.DelayedAt{Due: d.Due, Seq: d.Seq}
		q.dueFrom = record.DelayedAt{Due: d.Due, Seq: d.Seq + 1}
		ch.DeleteDelayed(q.id, q.delays.through, d.ID)
		q.counters.Delayed--
		m.enqueue(q, d.Message)
	}
	if len(due) > 0 {
		q.passDelayed(ch, q.dueFrom.Due)
	}
	m.due.set(q, next)
	m.touch(q)
}

// passDelayed says that no scheduled message is due before some time, or that
// there is none.
func (q *queue) passDelayed(ch Changes, due int64) {
	if q.counters.Delayed == 0 {
		due = math.MaxInt64
	}
	ch.PassDelayed(q.id, due)
}

// add and drop keep the names sorted.
func (m *Queues) add(q *queue) {
	m.queues[q.spec.Name] = q
	i, _ := slices.BinarySearch(m.sorted, q.spec.Name)
	m.sorted = slices.Insert(m.sorted, i, q.spec.Name)
}

func (m *Queues) drop(q *queue) {
	delete(m.queues, q.spec.Name)
	i, _ := slices.BinarySearch(m.sorted, q.spec.Name)
	m.sorted = slices.Delete(m.sorted, i, i+1)
}
