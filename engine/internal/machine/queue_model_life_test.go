package machine

import (
	"errors"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// What the model checks of schedules, priorities and bounds.

// wantFirst checks that nothing is before a message that is delivered.
func (m *queueModel) wantFirst(msg *modelMessage) {
	m.t.Helper()
	rank := min(msg.priority, modelPriority)
	for _, other := range m.msgs {
		if other == msg || other.done || other.until != 0 || other.due != 0 || other.again == 1 || other.again > m.now.Mono {
			continue
		}
		r := min(other.priority, modelPriority)
		if r > rank || r == rank && other.order < msg.order && !other.late && !msg.late {
			m.t.Fatalf("%+v delivered before %+v", *msg, *other)
		}
	}
}

// overflown takes note of what the queue dropped from its head in this round:
// whatever is left and was not held is behind that.
func (m *queueModel) overflown(held map[*modelMessage]bool) {
	m.t.Helper()
	if m.bound != queuedriver.DropHead || m.m.queues["graves"] == nil {
		return
	}
	var gone []*modelMessage
	for _, b := range m.store.queues[m.m.queues["graves"].id].blocks {
		for i, rec := range b.Messages {
			seq := b.Index.FirstSeq + uint64(i)
			if rec.Headers[queuedriver.HeaderDeathReason] != queuedriver.ReasonMaxLength || m.buried[seq] {
				continue
			}
			m.buried[seq] = true
			msg := m.msgs[rec.ID]
			if msg.done || held[msg] {
				m.t.Fatalf("%+v was dropped from the head", *msg)
			}
			msg.done, msg.dead = true, true
			gone = append(gone, msg)
		}
	}
	for key, msgs := range m.keys {
		m.keys[key] = slices.DeleteFunc(msgs, func(msg *modelMessage) bool { return msg.done })
	}
	for _, msg := range gone {
		for _, other := range m.msgs {
			if other.done || held[other] || other.due != 0 {
				continue
			}
			rank, r := min(msg.priority, modelPriority), min(other.priority, modelPriority)
			if r < rank || r == rank && other.order < msg.order && !other.late && !msg.late {
				m.t.Fatalf("%+v was dropped from the head before %+v", *msg, *other)
			}
		}
	}
	if c := m.m.queues["work"].counters; len(m.m.hungry) == 0 && (c.Live > modelLength || c.Bytes > modelBytes) {
		m.t.Fatalf("the queue has %d messages with %d bytes", c.Live, c.Bytes)
	}
}

// timedOut takes note of what went in this round because its time was over.
func (m *queueModel) timedOut(held map[*modelMessage]bool) {
	m.t.Helper()
	if !m.mortal || m.m.queues["graves"] == nil {
		return
	}
	for _, b := range m.store.queues[m.m.queues["graves"].id].blocks {
		for i, rec := range b.Messages {
			seq := b.Index.FirstSeq + uint64(i)
			if rec.Headers[queuedriver.HeaderDeathReason] != queuedriver.ReasonExpired || m.buried[seq] {
				continue
			}
			m.buried[seq] = true
			msg := m.msgs[rec.ID]
			if held[msg] || msg.expires == 0 || msg.expires > m.maxWall || msg.dead || rec.TTL != 0 {
				m.t.Fatalf("%+v timed out at %d", *msg, m.now.Wall)
			}
			msg.done, msg.dead, msg.until = true, true, 0
		}
	}
	for key, msgs := range m.keys {
		m.keys[key] = slices.DeleteFunc(msgs, func(msg *modelMessage) bool { return msg.done })
	}
}

// forget makes a message as if it had never been published.
func (m *queueModel) forget(msg *modelMessage) {
	msg.done = true
	if msg.key != "" {
		m.keys[msg.key] = slices.DeleteFunc(m.keys[msg.key], func(x *modelMessage) bool { return x == msg })
	}
}

// cancel cancels one that may be scheduled. What came due at the beginning of
// a round is not.
func (m *queueModel) cancel() {
	if len(m.scheduled) == 0 {
		return
	}
	i := m.rand.IntN(len(m.scheduled))
	msg := m.scheduled[i]
	c := &CancelScheduled{Queue: "work", ID: msg.id}
	m.m.CancelScheduled(m.store, m.store, c)
	waits := msg.due != 0 && !msg.done
	if (c.Err == nil) != waits || c.Err != nil && !errors.Is(c.Err, lease.ErrNotFound) {
		m.t.Fatalf("cancel of %s, due %d at %d, done %v: %v", msg.id, msg.due, m.now.Wall, msg.done, c.Err)
	}
	if waits {
		msg.done = true
	}
	if m.rand.IntN(2) == 0 {
		m.scheduled = slices.Delete(m.scheduled, i, i+1) // the others are cancelled again
	}
}

// comeDue takes note of what Tick has moved into the queue.
func (m *queueModel) comeDue() {
	m.waitsForRoom = m.m.queues["work"].blockedDue != 0
	for _, msg := range m.scheduled {
		if msg.due == 0 || msg.done || msg.due > m.now.Wall {
			continue
		}
		if _, waits := m.storedDue(msg); waits {
			m.waitsForRoom = true
			continue
		}
		msg.due = 0
		if msg.ttl > 0 {
			msg.expires = m.now.Wall + int64(msg.ttl)
		}
	}
}

// storedDue reports whether a scheduled message still is after a Tick: only in
// a queue that was full.
func (m *queueModel) storedDue(msg *modelMessage) (record.DelayedAt, bool) {
	work := m.m.queues["work"]
	for at, d := range m.store.queues[work.id].delayed {
		at := record.DelayedAt{Due: at[0], Seq: uint64(at[1])}
		if d.ID == msg.id && work.delays.has(at) {
			if m.bound != queuedriver.RejectPublish || work.counters.Live < modelLength && work.counters.Bytes+9000 <= modelBytes && work.blockedDue == 0 {
				m.t.Fatalf("%s waits for nothing", msg.id)
			}
			return at, true
		}
	}
	return record.DelayedAt{}, false
}

// purge ends everything that is not held.
func (m *queueModel) purge() {
	want := int64(0)
	for _, msg := range m.msgs {
		if !msg.done && msg.until < m.now.Mono {
			want++
			msg.done = true
		}
	}
	for key, msgs := range m.keys {
		m.keys[key] = slices.DeleteFunc(msgs, func(msg *modelMessage) bool { return msg.done })
	}
	if m.mortal { // some may have timed out in this round
		work := m.m.queues["work"]
		want = work.counters.Live - int64(len(work.flights)) + work.counters.Delayed
	}
	c := &Purge{Queue: "work"}
	m.m.Purge(m.store, c)
	if c.Err != nil || c.Dropped != want {
		m.t.Fatalf("purged %d, want %d: %v", c.Dropped, want, c.Err)
	}
}
