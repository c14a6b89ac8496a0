package machine

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Every message that is loaded and has a TTL is in its queue's expiries, so
// that it goes in time wherever it is: ready, parked behind its key, or
// waiting for another attempt. What is behind the window is not looked at
// until the window gets there; a queue that has such messages is fed for that
// even if nobody receives.

// expiry is when a message times out, by the wall clock.
type expiry struct {
	at int64
	entry
}

// expiryHeap gives the earliest expiry. Some are of messages that are gone.
type expiryHeap struct{ xs []expiry }

func expiryLess(a, b expiry) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (h *expiryHeap) push(x expiry) {
	h.xs = append(h.xs, x)
	up(h.xs, len(h.xs)-1, expiryLess)
}

func (h *expiryHeap) pop() {
	last := len(h.xs) - 1
	h.xs[0] = h.xs[last]
	h.xs = h.xs[:last]
	down(h.xs, 0, expiryLess)
}

// keep takes out all others.
func (h *expiryHeap) keep(which func(x expiry) bool) {
	h.xs = slices.DeleteFunc(h.xs, func(x expiry) bool { return !which(x) })
	for i := len(h.xs)/2 - 1; i >= 0; i-- {
		down(h.xs, i, expiryLess)
	}
}

// minStaleExpiries is how many entries too many are not worth looking for.
const minStaleExpiries = 1024

// noteExpiry makes known when a message times out.
func (q *queue) noteExpiry(at int64, e entry) {
	q.expiries.push(expiry{at, e})
	if n := len(q.expiries.xs); n > minStaleExpiries && n > 2*q.loaded() {
		q.expiries.keep(func(x expiry) bool { return !q.isAcked(x.seq) })
	}
}

// lifetime is how long a message may be in the queue; 0: for ever.
func (q *queue) lifetime(rec *record.Message) time.Duration {
	switch ttl := q.spec.MessageTTL; {
	case q.stream != nil:
		return 0
	case rec.TTL == 0 || ttl != 0 && ttl < rec.TTL:
		return ttl
	}
	return rec.TTL
}

// stamp writes into the index of new blocks when their messages time out:
// their TTL counts from here.
func (q *queue) stamp(now Time, blocks []NewBlock) {
	for i := range blocks {
		b := &blocks[i]
		for j := range b.Messages {
			if ttl := q.lifetime(&b.Messages[j]); ttl > 0 {
				b.Index.Entries[j].Expires = now.Wall + int64(ttl)
			}
		}
	}
}

// timeOuts ends the messages of a queue whose time is over. What is in flight
// ends when it comes back.
func (m *Queues) timeOuts(now Time, ch Changes, view View, q *queue) {
	m.touch(q)
	for !m.roundFull() {
		x, ok := q.nextTimeOut(now)
		if !ok {
			break
		}
		q.expiries.pop()
		m.steps++
		m.timeOut(now, ch, view, q, x.entry)
	}
	q.skim()
	m.setExpiry(q)
}

// nextTimeOut returns the next message whose time is over and that is not in
// flight.
func (q *queue) nextTimeOut(now Time) (expiry, bool) {
	for len(q.expiries.xs) > 0 {
		x := q.expiries.xs[0]
		f := q.flights[x.seq]
		switch {
		case q.isAcked(x.seq):
		case x.at > now.Wall:
			return expiry{}, false
		case f == nil:
			return x, true
		default:
			f.late = true
		}
		q.expiries.pop()
	}
	return expiry{}, false
}

// setExpiry has Tick look at the queue when its next message times out.
func (m *Queues) setExpiry(q *queue) {
	for len(q.expiries.xs) > 0 && q.isAcked(q.expiries.xs[0].seq) {
		q.expiries.pop()
	}
	at := int64(0)
	if len(q.expiries.xs) > 0 && !q.deleted {
		at = max(1, q.expiries.xs[0].at)
	}
	if at != q.timers[expiryTimer].at {
		m.expiries.set(q, at)
	}
}

// timeOut dead-letters or drops a message whose time is over. If that leads
// nowhere it stays, but is never delivered, and is tried again after as long
// as it has been tried for, up to the queue's longest backoff.
func (m *Queues) timeOut(now Time, ch Changes, view View, q *queue, e entry) {
	if q.spec.DeadLetter == nil {
		q.counters.Dropped++
	} else {
		a := q.attempts[e.seq]
		f := &flight{entry: e, token: a.LastToken, attempt: a.Count, loaded: true}
		if !m.deadLetter(now, view, q, f, queuedriver.ReasonExpired, "", a.Count) {
			m.keepLate(now, q, e)
			return
		}
	}
	q.counters.TimedOut++
	m.erase(ch, q, e)
	q.lazy++
}

func (m *Queues) keepLate(now Time, q *queue, e entry) {
	since, known := q.late[e.seq]
	if !known {
		if q.late == nil {
			q.late = make(map[uint64]int64)
		}
		since = now.Wall
		q.late[e.seq] = since
		if _, waits := q.waiting[e.seq]; waits {
			delete(q.waiting, e.seq)
			m.retries.drop(1)
		}
		q.laneDone(e.hash, e.seq)
	}
	pause := min(max(time.Duration(now.Wall-since), nowhereRetry), max(q.spec.Backoff.Max, nowhereRetry))
	q.noteExpiry(now.Wall+int64(pause), e)
}

// ended reports that a message is not to be delivered any more.
func (q *queue) ended(seq uint64) bool {
	if q.isAcked(seq) {
		return true
	}
	if len(q.late) == 0 {
		return false
	}
	_, late := q.late[seq]
	return late
}

// giveBack puts back the message of a delivery that ended without an ack.
func (m *Queues) giveBack(now Time, ch Changes, view View, q *queue, f *flight, notBefore int64) {
	q.noteHead(f.entry)
	if f.late {
		m.timeOut(now, ch, view, q, f.entry)
		return
	}
	q.giveBack(f, notBefore, now, &m.retries)
}
