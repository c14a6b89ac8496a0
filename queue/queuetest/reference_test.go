package queuetest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// reference is the plainest queue backend that keeps every promise: slices
// under one mutex, walked from the front, by the wall clock. It shows that
// the suite asks for what the contract says and not for what the engine
// happens to do.
type reference struct {
	flaws flaws

	mu        sync.Mutex
	exchanges map[string]driver.Exchange
	queues    map[string]*refQueue
	schedules map[string]*refSchedule
	bindings  []driver.Binding
	locks     map[string]driver.LockRef
	results   map[string]*refResult
	token     lease.Token
	changed   chan struct{} // closed, and replaced, when something may have become receivable
}

// flaws are ways in which a reference breaks its promises.
type flaws struct {
	lastFirst         bool // newest messages are delivered first
	tokensRepeat      bool // every delivery has the same token
	lateAckAccepted   bool // an overtaken holder settles
	attemptsUncounted bool // a nack counts for nothing
	dedupForgets      bool // IDs are not remembered
	keysConcurrent    bool // messages of one key run at once
	headersMissing    bool // a dead letter has no story
	extendNothing     bool // Extend says the TTL and leaves the lease as it was
	nackAtOnce        bool // the delay of a nack is ignored
	duplicatesUnseen  bool // Receipt.Queues leaves out those that had it
	bytesOverrun      bool // MaxBytes is passed by one message
	nowhereDrops      bool // a dead letter to nowhere is lost
	nowhereDelivers   bool // a message past its limit is delivered again
	secondKeyIgnored  bool // an exchange that is bound to another takes every key for its own
	alternateAlways   bool // an alternate gets a copy of what matches, too
	alternateForlorn  bool // an alternate can be deleted
	endsKept          bool // bindings to a deleted exchange stay
	firstTakesAll     bool // whoever looks first takes all that it asks for
	restUnshared      bool // what one does not ask for is given to nobody
	receivesTakeTurns bool // every receive counts as a consumer
	detachLeavesWait  bool // receives go on waiting after Detach
	activeIgnored     bool // every consumer of a single active queue gets messages
	activeOverlaps    bool // the next is active while deliveries of the one before are live
	neverGone         bool // silent consumers stay
	autoDeleteHasty   bool // with the first consumer that leaves
	expiresAnyway     bool // whether it is used or not
	exclusiveOpen     bool // exclusive queues are everyone's
	exclusiveStays    bool // they outlive their connection
	cancelNothing     bool // CancelScheduled only says so
	immortal          bool // nothing times out
	circlesGrow       bool // what times out goes to every queue of its route
	trailKept         bool // a rejection does not begin the way anew
	fullFirst         bool // a full queue refuses what it knows
	halfRefused       bool // a full queue refuses only if it is the first that matches
	dropsFlying       bool // drop_head drops what is in flight
	commitBelieves    bool // a commit settles what is not held
	commitByHalf      bool // a commit that fails has published
	requireIgnored    bool // locks that are required need not be held
	requireReleases   bool // locks that are required are released
	locksKept         bool // locks stay held through a commit that releases them
	resultsForgotten  bool // a commit's ID is not remembered
	resultsForever    bool // it is never forgotten
	digestIgnored     bool // an ID is enough for a repeat
	failuresKept      bool // the ID of a commit that failed is remembered
	commitAcksNothing bool // a commit leaves its deliveries as they are
	commitUnlimited   bool // a commit may be of any size
	commitOverfull    bool // a commit that has no room for a message is done but for it
	streamForever     bool // retention drops nothing
	streamForgets     bool // retention drops everything
	streamSkips       bool // what comes between two looks at a stream is passed over
	streamOffByOne    bool // an offset is of the message before
	streamPastEnd     bool // an offset past the end is waited for
	streamLeases      bool // messages of a stream can be received
	offsetsMonotone   bool // an offset does not go back
	offsetsUnlimited  bool // any number of them is kept
	ticksTwice        bool // a tick publishes twice
	ticksVanish       bool // a tick that leads nowhere is forgotten
	putRestarts       bool // a schedule that is put again begins anew
	pauseIgnored      bool // a schedule that is paused goes on
}

type refQueue struct {
	spec      driver.Queue
	seq       uint64
	messages  []*refMessage // in queue order
	scheduled []*refMessage // not in it yet
	seen      map[string]time.Time
	consumers map[string]*refConsumer
	line      []*refConsumer // that wait
	active    *refConsumer
	owner     *refConn
	used      time.Time         // last, by a consumer or a declaration
	attended  bool              // it has had a consumer
	stats     driver.QueueStats // counters only
	stream    *refStream        // nil: it is none
	next      time.Time         // nothing ends or comes due before
}

type refMessage struct {
	seq       uint64
	message   *driver.Message
	route     driver.Route
	published time.Time
	due       time.Time // not delivered before
	expires   time.Time // zero: never
	trail     []string  // queues that it and its copies were in since somebody did something with it
	failed    int       // attempts
	exhausted bool      // only to be dead-lettered
	token     lease.Token
	flying    bool
	consumer  *refConsumer
	lease     time.Duration
	until     time.Time // end of the lease
}

func newReference() *reference {
	return &reference{
		exchanges: map[string]driver.Exchange{},
		queues:    map[string]*refQueue{},
		schedules: map[string]*refSchedule{},
		locks:     map[string]driver.LockRef{},
		results:   map[string]*refResult{},
		changed:   make(chan struct{}),
	}
}

func (r *reference) connect() *refConn { return &refConn{reference: r, closed: make(chan struct{})} }

// refConn is one connection to a reference.
type refConn struct {
	*reference
	once   sync.Once
	closed chan struct{}
}

func (c *refConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.part(c)
	})
	return nil
}

func (c *refConn) Caps() driver.Caps {
	return driver.Caps{
		Backend: "reference", Durability: driver.Memory,
		DeliveryFence: true, Dedup: true, OrderKey: true, Delay: true, DelayedNack: true, Extend: true,
		DeadLetter: true, HeadersRoute: true, Peek: true, Redrive: true, Mandatory: true, Purge: true,
		Stats: true, FIFO: true, FairDispatch: true, QueueTTL: true, SingleActive: true, Exclusive: true, AutoDelete: true,
		ExchangeBindings: true, Alternate: true, CancelScheduled: true, Priorities: true, MaxLength: true, MessageTTL: true, Streams: true, Schedules: true, Commit: true, Store: "reference",
		Numbered: true, OutlivesConn: true, ConfirmedAck: true, FreeRelease: true, OrderedRelease: true, CountsQueues: true, IfEmpty: true,
		MinLease: 10 * time.Millisecond, MaxLease: 24 * time.Hour, MaxBody: driver.MaxBody,
	}
}

// begin locks, lets pass what is due and returns the time. Whoever gets no
// error unlocks.
func (c *refConn) begin(ctx context.Context) (time.Time, error) {
	c.mu.Lock()
	err := ctx.Err()
	select {
	case <-c.closed:
		err = lease.ErrClosed
	default:
	}
	if err != nil {
		c.mu.Unlock()
		return time.Time{}, err
	}
	now := time.Now()
	c.tick(now)
	for _, q := range c.queues {
		c.advance(q, now)
		c.upkeep(q, now)
	}
	return now, nil
}

func (r *reference) find(name string) (*refQueue, error) {
	if q := r.queues[name]; q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("queue %q: %w", name, lease.ErrNotFound)
}

func (r *reference) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// advance ends the leases that ran out, queues what was scheduled for now,
// and tries again to dead-letter what could not be.
func (r *reference) advance(q *refQueue, now time.Time) {
	if now.Before(q.next) {
		return
	}
	slices.SortStableFunc(q.scheduled, func(a, b *refMessage) int { return a.due.Compare(b.due) })
	for len(q.scheduled) > 0 && !q.scheduled[0].due.After(now) && q.admit(q.scheduled[0].message, false) == nil {
		if q.stream != nil {
			q.scheduled[0].published = now // stored now
		}
		q.append(q.scheduled[0])
		q.scheduled = q.scheduled[1:]
		r.trim(q, now)
	}
	for _, m := range slices.Clone(q.messages) {
		switch {
		case m.timedOut(now) && !r.flaws.immortal:
			r.timeOut(q, m, now)
		case m.flying && now.After(m.until):
			q.stats.Expired++
			r.failed(q, m, now, 0, "lease expired")
		case m.exhausted && !m.due.After(now) && !r.flaws.nowhereDelivers:
			r.exhaust(q, m, now, "")
		}
	}
	q.next = now.Add(time.Hour)
	if q.stream != nil {
		r.retain(q, now)
	}
	for _, m := range slices.Concat(q.messages, q.scheduled) {
		if !m.expires.IsZero() && m.expires.After(now) {
			q.soon(m.expires)
		}
		if m.flying {
			q.soon(m.until)
		} else if m.due.After(now) {
			q.soon(m.due)
		}
	}
	r.wake()
}

// timedOut reports whether a message is to go. What is in flight is not.
func (m *refMessage) timedOut(now time.Time) bool {
	return !m.flying && !m.expires.IsZero() && !m.expires.After(now)
}

func (r *reference) timeOut(q *refQueue, m *refMessage, now time.Time) {
	if q.spec.DeadLetter == nil {
		q.stats.Dropped++
		q.remove(m)
	} else if !r.bury(q, m, now, driver.ReasonExpired, "") {
		return
	}
	q.stats.TimedOut++
}

// soon makes the queue look again at a time.
func (q *refQueue) soon(at time.Time) {
	if at.Before(q.next) {
		q.next = at
	}
}

func (q *refQueue) append(m *refMessage) {
	q.seq++
	ttl := m.message.TTL
	if most := q.spec.MessageTTL; ttl == 0 || most > 0 && most < ttl {
		ttl = most
	}
	if ttl > 0 && q.stream == nil {
		m.expires = time.Now().Add(ttl)
		q.soon(m.expires)
	}
	m.seq = uint64(q.spec.MaxPriority-min(q.spec.MaxPriority, m.message.Priority))<<32 | q.seq
	i, _ := slices.BinarySearchFunc(q.messages, m.seq, func(m *refMessage, seq uint64) int { return cmp.Compare(m.seq, seq) })
	q.messages = slices.Insert(q.messages, i, m)
}

// admit returns why q does not take a message.
func (q *refQueue) admit(m *driver.Message, scheduled bool) error {
	if q.spec.MaxPriority > 0 && m.OrderKey != "" {
		return lease.Invalidf("message.order_key", "is not for a queue with priorities")
	}
	if size := int64(len(m.Body)); q.spec.MaxBytes > 0 && size > q.spec.MaxBytes {
		return fmt.Errorf("max_bytes: %w", lease.ErrLimit)
	}
	if !scheduled && q.spec.Overflow == driver.RejectPublish && q.over(1, len(m.Body)) {
		return driver.ErrQueueFull
	}
	return nil
}

// over reports whether q is past its bounds with so much more in it.
func (q *refQueue) over(n, size int) bool {
	for _, m := range q.messages {
		n, size = n+1, size+len(m.message.Body)
	}
	return q.spec.MaxLength > 0 && int64(n) > q.spec.MaxLength || q.spec.MaxBytes > 0 && int64(size) > q.spec.MaxBytes
}

// trim drops from the head.
func (r *reference) trim(q *refQueue, now time.Time) {
	for q.spec.Overflow == driver.DropHead && q.over(0, 0) {
		var oldest *refMessage
		for _, m := range q.messages {
			if (!m.flying || r.flaws.dropsFlying) && (oldest == nil || m.seq>>32 > oldest.seq>>32) {
				oldest = m
			}
		}
		if oldest == nil || q.spec.DeadLetter != nil && !r.bury(q, oldest, now, driver.ReasonMaxLength, "") {
			return
		}
		if q.spec.DeadLetter == nil {
			q.stats.Dropped++
			q.remove(oldest)
		}
		q.stats.Overflowed++
	}
}

func (q *refQueue) remove(m *refMessage) {
	q.messages = slices.DeleteFunc(q.messages, func(x *refMessage) bool { return x == m })
}

// enqueue stores a message that was routed to q.
func (q *refQueue) enqueue(now, due time.Time, r driver.Route, m *driver.Message) *refMessage {
	q.stats.Published++
	if q.stream != nil {
		q.soon(now) // retention
	}
	stored := &refMessage{message: m, route: r, published: now, due: due}
	if due.After(now) {
		q.scheduled = append(q.scheduled, stored)
		q.soon(due)
		return stored
	}
	q.append(stored)
	return stored
}

func (c *refConn) Publish(ctx context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	if err := driver.ValidateBatch(ps); err != nil {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	rs := make([]driver.Receipt, len(ps))
	for i := range ps {
		rs[i] = c.publish(now, &ps[i])
	}
	c.wake()
	return rs, nil
}

func (r *reference) publish(now time.Time, p *driver.Publishing) driver.Receipt {
	to, err := r.match(p.Route, p.Message.Headers)
	if err == nil && len(to) == 0 && p.Mandatory {
		err = driver.ErrUnroutable
	}
	if err != nil {
		return driver.Receipt{Err: err}
	}
	due := p.Message.NotBefore
	if p.Message.Delay > 0 {
		due = now.Add(p.Message.Delay)
	}
	for _, q := range to {
		if q.knows(now, p.Message.ID) && !r.flaws.fullFirst {
			continue // a duplicate needs no room
		}
		err := q.admit(p.Message, due.After(now))
		if errors.Is(err, driver.ErrQueueFull) {
			q.stats.Refused++
		}
		if err != nil && (!r.flaws.halfRefused || q == to[0]) {
			return driver.Receipt{Err: err}
		}
	}
	m := *p.Message
	m.Body, m.Headers = bytes.Clone(m.Body), maps.Clone(m.Headers)
	receipt := driver.Receipt{Durability: driver.Memory, Queues: len(to)}
	stored := 0
	for _, q := range to {
		if q.knows(now, m.ID) && !r.flaws.dedupForgets {
			q.stats.Duplicates++
			continue
		}
		q.seen[m.ID] = now
		stored++
		q.enqueue(now, due, p.Route, &m)
		r.trim(q, now)
	}
	receipt.Duplicate = len(to) > 0 && stored == 0
	if r.flaws.duplicatesUnseen {
		receipt.Queues = stored
	}
	return receipt
}

// knows reports whether an ID was published within the window.
func (q *refQueue) knows(now time.Time, id string) bool {
	if q.spec.DedupWindow == 0 || id == "" {
		return false
	}
	at, ok := q.seen[id]
	return ok && now.Sub(at) <= q.spec.DedupWindow
}

// pause is the queue's backoff after so many failed attempts.
func (q *refQueue) pause(failed int) time.Duration {
	d := q.spec.Backoff.Min
	for ; failed > 1 && d < q.spec.Backoff.Max; failed-- {
		d *= 2
	}
	d = min(d, q.spec.Backoff.Max)
	return d - rand.N(d/2+1)
}
