package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Bounds on what a store holds.
const (
	MaxQueues    = 100_000
	MaxExchanges = 10_000
	MaxConsumers = 10_000 // remembered per queue
)

// consumerSeen is how long a consumer counts after its last receive.
const consumerSeen = time.Minute

// maxFaults bounds what Faults returns.
const maxFaults = 100

// Bounds on one round: past them what can wait is left to the next one.
const (
	roundBytes = 4 << 20 // of bodies that are copied
	roundSteps = 100_000 // bindings and ids that are looked at
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

// maxDue bounds how many scheduled messages of one queue come due in a round.
const (
	maxDue      = 1000
	maxDueBytes = 4 << 20
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
	round     uint64 // marks the queues that a message goes to

	fetches fetchHeap
	retries retryHeap
	touched []*queue // in this round
	hungry  []*queue // to be looked at at the next Tick
	due     dueHeap  // those that have scheduled messages
	sorted  []string // names of queues
	faults  []error
	room    error // why nothing may grow; nil: there is room

	unwritten int // bytes of bodies that Dispatch will write
	steps     int // see roundSteps
}

// NewQueues returns a machine without queues; Restore fills it.
func NewQueues(tokens *Tokens) *Queues {
	return &Queues{
		limits:    defaultLimits,
		tokens:    tokens,
		exchanges: make(map[string]*exchange),
		queues:    make(map[string]*queue),
	}
}

// SetRoom says, before Tick, whether the disk has room: nil, or an error that
// matches lease.ErrNoSpace. While it has none, scheduled messages and dead
// letters stay where they are, for moving them copies them.
func (m *Queues) SetRoom(full error) { m.room = full }

// roundFull reports that no more work should go into this round.
func (m *Queues) roundFull() bool { return m.unwritten >= roundBytes || m.steps >= roundSteps }

// Tick lets pass what is due: leases that ran out, retries and scheduled
// messages whose time has come; and loads what queues need for deliveries.
func (m *Queues) Tick(now Time, ch Changes, view View) {
	for f := m.fetches.min(); f != nil && f.at < now.Mono && !m.roundFull(); f = m.fetches.min() {
		m.expire(now, ch, view, f)
	}
	for r, ok := m.retries.min(); ok && r.at <= now.Mono; r, ok = m.retries.min() {
		m.retries.pop()
		if !r.live() {
			m.retries.stale--
			continue
		}
		q := r.queue
		q.returned.push(q.waiting[r.seq].entry)
		delete(q.waiting, r.seq)
		m.touch(q)
	}
	for q := m.due.min(); q != nil && q.dueAt <= now.Wall && m.room == nil && !m.roundFull(); q = m.due.min() {
		m.loadDue(now, ch, view, q)
	}
	hungry := m.hungry
	m.hungry = nil
	for _, q := range hungry {
		q.hungry = false
		m.loadIndex(view, q)
	}
}

// Dispatch ends the round: it stores what was published, hands messages to
// waiting receivers, and writes what the round did to each queue.
func (m *Queues) Dispatch(now Time, ch Changes, view View) {
	// A delivery can dead-letter a message into a queue that was dealt with
	// already, or was not touched before: go round until none has news.
	for news := true; news; {
		news = false
		for i := 0; i < len(m.touched); i++ {
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
		if len(q.seen) > ReadyWindow { // clear costs as much as the map was ever large
			q.seen = make(map[string]struct{})
		}
		clear(q.seen)
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
	if q := m.due.min(); q != nil {
		left := time.Duration(max(0, q.dueAt-now.Wall))
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

// feed has a queue looked at at the next Tick.
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
	tail := q.counters.NextSeq
	blocks, err := view.LoadIndex(q.id, q.cursor, q.limits.window-q.ready.len())
	if err != nil {
		q.failed = m.fault(q, err) // for those who wait; the next receiver tries again
		return
	}
	for i := range blocks {
		q.addBlock(&blocks[i])
	}
	if len(blocks) == 0 {
		q.cursor = tail // the rest is acked and dropped
	}
}

// loadDue moves scheduled messages whose time has come into their queue.
func (m *Queues) loadDue(now Time, ch Changes, view View, q *queue) {
	due, next, err := view.LoadDue(q.id, now.Wall, maxDue, maxDueBytes)
	if err != nil {
		_ = m.fault(q, err)
		if next == 0 || len(due) == 0 && next <= now.Wall {
			next = now.Wall + int64(readAgain)
		}
	}
	for i := range due {
		d := &due[i]
		ch.DeleteDelayed(q.id, d.Due, d.Seq)
		q.counters.Delayed--
		m.enqueue(q, d.Message)
	}
	m.due.set(q, next)
	m.touch(q)
}

// expire ends the deliveries of a fetch whose lease ran out.
func (m *Queues) expire(now Time, ch Changes, view View, f *fetch) {
	q := f.queue
	m.touch(q)
	for i := range f.flights {
		d := &f.flights[i]
		if d.fetch == nil || d.deadline >= now.Mono {
			continue
		}
		if m.roundFull() {
			break // the others in the next round; until then they can be acked
		}
		q.counters.Expired++
		m.attemptEnded(now, ch, view, q, d, 0, "lease expired")
	}
	if f.live > 0 {
		f.at = f.earliest()
		m.fetches.fix(f)
	}
}

// deliver hands messages to the receivers that wait.
func (m *Queues) deliver(now Time, ch Changes, view View, q *queue) {
	for r := q.receivers.first; r != nil; r = q.receivers.first {
		if q.deleted || q.failed != nil {
			err := q.failed
			if err == nil {
				err = fmt.Errorf("queue %q was deleted: %w", q.spec.Name, lease.ErrNotFound)
			}
			m.finish(q, r, err)
			continue
		}
		if !m.lease(now, ch, view, q, r) {
			break
		}
		m.finish(q, r, nil)
	}
	q.failed = nil
	if q.starved() && q.receivers.first != nil {
		m.feed(q)
	}
	if q.hungry {
		return
	}
	for r := q.receivers.first; r != nil; {
		next := r.next
		if r.Request.Wait == 0 {
			m.finish(q, r, nil)
		}
		r = next
	}
}

func (m *Queues) finish(q *queue, r *Receive, err error) {
	q.receivers.remove(r)
	r.queue, r.Err = nil, err
	m.Finished.add(r)
}

// lease gives r as many messages as there are for it; it reports false if
// there is none.
func (m *Queues) lease(now Time, ch Changes, view View, q *queue, r *Receive) bool {
	var es []entry
	size, buried := 0, 0
	for len(es) < r.Request.Max && size < r.Request.MaxBytes && q.hasRoom(len(es)) {
		e, exhausted, ok := q.next(now, &m.retries, len(es))
		if !ok {
			break
		}
		if exhausted && buried > 0 && m.roundFull() {
			q.returned.push(e)
			m.feed(q) // goes on in the next round
			break
		}
		if exhausted {
			buried++
			a := q.attempts[e.seq]
			f := &flight{entry: e, token: a.LastToken, attempt: a.Count, loaded: true}
			m.exhaust(now, ch, view, q, f, a, "")
			continue
		}
		if len(es) > 0 && size+int(e.size) > r.Request.MaxBytes {
			q.returned.push(e)
			break
		}
		es = append(es, e)
		size += int(e.size)
	}
	if len(es) == 0 {
		return false
	}
	m.launch(now, ch, q, r, es)
	return true
}

// launch makes the deliveries of one receive.
func (m *Queues) launch(now Time, ch Changes, q *queue, r *Receive, es []entry) {
	ttl := q.ttl(r.Request)
	f := &fetch{
		id:      q.counters.NextFetch,
		queue:   q,
		flights: make([]flight, len(es)),
		live:    len(es),
		at:      now.Mono.Add(ttl),
		rec: record.Fetch{
			Consumer:   r.Request.Consumer,
			TTL:        ttl,
			FirstToken: m.tokens.Take(ch, len(es)),
			Seqs:       make([]uint64, len(es)),
		},
	}
	q.counters.NextFetch++
	r.Leased = make([]Leased, len(es))
	for i, e := range es {
		token := f.rec.FirstToken + lease.Token(i)
		attempt := q.attempts[e.seq].Count + 1
		f.flights[i] = flight{entry: e, token: token, deadline: f.at, attempt: attempt, loaded: true, fetch: f}
		f.rec.Seqs[i] = e.seq
		q.flights[e.seq] = &f.flights[i]
		r.Leased[i] = Leased{Seq: e.seq, Block: q.blockOf(e.seq), Token: token, Attempt: int(attempt)}
	}
	q.counters.Delivered += int64(len(es))
	m.fetches.push(f)
	ch.PutFetch(q.id, f.id, &f.rec)
	r.QueueID, r.TTL, r.Waited = q.id, ttl, now.Mono.Sub(r.Received)
}

// land ends a live delivery; what becomes of its message is the caller's.
func (m *Queues) land(ch Changes, q *queue, f *flight) {
	delete(q.flights, f.seq)
	if f.fetch == nil {
		return
	}
	fetch := f.fetch
	f.fetch = nil
	fetch.live--
	if fetch.live == 0 {
		m.fetches.remove(fetch)
		ch.DeleteFetch(q.id, fetch.id)
	}
}

// Receive decides or queues a receive.
func (m *Queues) Receive(now Time, r *Receive) {
	q, err := m.find(r.Request.Queue)
	if err != nil {
		r.Err = err
		m.Finished.add(r)
		return
	}
	if _, known := q.consumers[r.Request.Consumer]; known || len(q.consumers) < MaxConsumers {
		q.consumers[r.Request.Consumer] = now.Mono
	}
	r.queue = q
	q.receivers.push(r)
	m.touch(q)
}

// GiveUp ends a waiting receive.
func (m *Queues) GiveUp(c *GiveUp) {
	if q := c.Receive.queue; q != nil {
		m.finish(q, c.Receive, nil)
	}
}

// Detach forgets a consumer.
func (m *Queues) Detach(c *Detach) {
	if q := m.queues[c.Queue]; q != nil {
		delete(q.consumers, c.Consumer)
	}
}

// Stats reads.
func (m *Queues) Stats(now Time, view View, c *ReadStats) {
	r := c.Request
	if r.Queue != "" {
		q, err := m.find(r.Queue)
		if err != nil {
			c.Err = err
			return
		}
		c.Stats = []queuedriver.QueueStats{m.stats(now, view, q)}
		return
	}
	most := r.Max
	if most == 0 {
		most = queuedriver.DefaultList
	}
	from, _ := slices.BinarySearch(m.sorted, max(r.Prefix, r.After))
	for _, name := range m.sorted[from:] {
		if len(c.Stats) == most || !strings.HasPrefix(name, r.Prefix) {
			return
		}
		if name > r.After {
			c.Stats = append(c.Stats, m.stats(now, view, m.queues[name]))
		}
	}
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

func (m *Queues) stats(now Time, view View, q *queue) queuedriver.QueueStats {
	for r := q.receivers.first; r != nil; r = r.next {
		if _, known := q.consumers[r.Request.Consumer]; known {
			q.consumers[r.Request.Consumer] = now.Mono
		}
	}
	for id, seen := range q.consumers {
		if now.Mono.Sub(seen) > consumerSeen {
			delete(q.consumers, id)
		}
	}
	c := &q.counters
	return queuedriver.QueueStats{
		Name:         q.spec.Name,
		Ready:        c.Live - int64(len(q.flights)) - int64(len(q.waiting)),
		Delayed:      c.Delayed + int64(len(q.waiting)),
		InFlight:     int64(len(q.flights)),
		Bytes:        c.Bytes,
		OldestAge:    m.oldest(now, view, q),
		Consumers:    len(q.consumers),
		Published:    c.Published,
		Duplicates:   c.Duplicates,
		Delivered:    c.Delivered,
		Acked:        c.Acked,
		Nacked:       c.Nacked,
		Expired:      c.Expired,
		DeadLettered: c.DeadLettered,
		Dropped:      c.Dropped,
	}
}

// oldest returns the age of the first message that is left.
func (m *Queues) oldest(now Time, view View, q *queue) time.Duration {
	if q.counters.Live == 0 {
		return 0
	}
	published := int64(0)
	if s := q.segments[segmentOf(q.counters.Head)]; s != nil {
		for i := range s.blocks {
			if s.blocks[i].left > 0 {
				published = s.blocks[i].published
				break
			}
		}
	}
	if published == 0 {
		_, err := m.walk(view, q, 0, func(_ entry, b *record.IndexBlock) bool {
			published = b.Published
			return false
		})
		if err != nil || published == 0 {
			return 0 // unknown, or published in this round
		}
	}
	return time.Duration(max(0, now.Wall-published))
}
