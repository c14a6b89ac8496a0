package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// trial is what the parts of a commit that were looked at would do to the
// queues. For as long as the check lasts it is done to what decides about the
// parts behind: to the counters, and to the ids of the round.
type trial struct {
	bytes  int // of copies that would be stored
	counts []trialCount
	ids    []trialID
	to     []*queue // scratch
}

type trialCount struct {
	queue       *queue
	live, bytes int64
}

type trialID struct {
	queue *queue
	id    string
}

func (t *trial) undo() {
	for _, c := range t.counts {
		c.queue.counters.Live -= c.live
		c.queue.counters.Bytes -= c.bytes
	}
	for _, s := range t.ids {
		delete(s.queue.seen, s.id)
	}
}

func (t *trial) count(q *queue, live, bytes int64) {
	q.counters.Live += live
	q.counters.Bytes += bytes
	t.counts = append(t.counts, trialCount{q, live, bytes})
}

// store counts a message that q would take. It bounds what one commit stores:
// all of it is in one round.
func (t *trial) store(q *queue, rec *record.Message, counted bool) error {
	if t.bytes += size(rec); t.bytes > MaxFanOutBytes {
		return fmt.Errorf("the commit makes copies of more than %d bytes: %w", MaxFanOutBytes, lease.ErrLimit)
	}
	if counted {
		t.count(q, 1, int64(len(rec.Body)))
	}
	return nil
}

// trySettle says why a settlement cannot be done. What it would have to copy
// to a dead letter has been read then.
func (m *Queues) trySettle(now Time, view View, s *queuedriver.Settlement, t *trial) error {
	q, f, err := m.flight(&s.Ref)
	if err != nil {
		return err
	}
	reason := queuedriver.ReasonRejected
	switch {
	case s.Verb == queuedriver.Ack, s.Verb == queuedriver.Reject && q.spec.DeadLetter == nil:
		t.count(q, -1, -int64(f.size))
		return nil
	case s.Verb == queuedriver.Reject && m.room != nil:
		return m.room
	case s.Verb == queuedriver.Reject:
	case s.Verb == queuedriver.Nack && q.exhausted(f.attempt) && m.room == nil:
		reason = queuedriver.ReasonDeliveryLimit
	default:
		return nil
	}
	dead, to, err := m.letter(now, view, q, f, reason, s.Reason, f.attempt)
	if err != nil || len(to) == 0 || admitAll(dead, to, published) != nil {
		return err // that it leads nowhere is no error: it stays, then
	}
	t.count(q, -1, -int64(f.size))
	for _, d := range to {
		if err := t.store(d, dead, true); err != nil {
			return err
		}
	}
	return nil
}

// tryPublish says why a message cannot be published.
func (m *Queues) tryPublish(now Time, ch Changes, view View, p *queuedriver.Publishing, t *trial) error {
	to, err := m.look(now, ch, view, p, t.to[:0])
	t.to = to
	if err != nil {
		return err
	}
	rec := &record.Message{Route: p.Route, Message: p.Message}
	if err := m.admitNew(now, p, to); err != nil {
		return err
	}
	for _, q := range to {
		if q.known {
			continue
		}
		if err := t.store(q, rec, dueAt(now, p.Message) <= now.Wall); err != nil {
			return err
		}
		if q.spec.DedupWindow > 0 && p.Message.ID != "" {
			q.seen[p.Message.ID] = struct{}{}
			t.ids = append(t.ids, trialID{q, p.Message.ID})
		}
	}
	return nil
}
