package machine

import (
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

// gather takes up to most messages that can be delivered now, with bodies of
// up to size bytes together, though at least one if there is any. The slice is
// used again by the next call.
func (m *Queues) gather(now Time, ch Changes, view View, q *queue, most, size int) []entry {
	es := m.gathered[:0]
	total, buried := 0, 0
	for len(es) < most && total < size && q.hasRoom(len(es)) {
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
		if len(es) > 0 && total+int(e.size) > size {
			q.returned.push(e)
			break
		}
		es = append(es, e)
		total += int(e.size)
	}
	m.gathered = es
	return es
}

// launch makes the deliveries of one receive.
func (m *Queues) launch(now Time, ch Changes, q *queue, r *Receive, es []entry) {
	ttl := q.ttl(r.Request)
	f := &fetch{
		id:       q.counters.NextFetch,
		queue:    q,
		consumer: r.consumer,
		flights:  make([]flight, len(es)),
		live:     len(es),
		at:       now.Mono.Add(ttl),
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
	r.consumer.fetches++
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
		if c := fetch.consumer; c != nil {
			c.fetches--
			m.quieten(c)
		}
	}
}
