package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

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
	if q.deleted && q.stream != nil {
		m.dismissReaders(q)
		return
	}
	for r := q.receivers.first; r != nil; r = q.receivers.first {
		if q.deleted || q.failed != nil {
			err := q.failed
			if err == nil {
				err = fmt.Errorf("queue %q was deleted: %w", q.spec.Name, lease.ErrNotFound)
			}
			m.finish(q, r, err)
			continue
		}
		if _, behind := q.nextTimeOut(now); behind {
			m.feed(q) // first the others whose time is over
			break
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
	if err == nil {
		err = q.notStream()
	}
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
