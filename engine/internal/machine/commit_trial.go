package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Bounds on one commit, for all of it is in one round. What it reads for dead
// letters and what it stores is bounded by MaxFanOutBytes.
const (
	MaxCommitSteps = 2 * MaxRouteSteps // of routing, and of looking for ids
	copyBytes      = 512               // what a copy takes beside headers and body, amply
)

// trial is what the parts of a commit that were looked at would do to the
// queues. For as long as the check lasts it is done to what decides about the
// parts behind: to the counters, and to the ids of the round.
type trial struct {
	bytes  int // that are read, and of copies that would be stored
	steps  int // see Queues.steps
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

// spend counts bytes and steps.
func (t *trial) spend(bytes, steps int) error {
	t.bytes += bytes
	t.steps += steps
	switch {
	case t.bytes > MaxFanOutBytes:
		return fmt.Errorf("the commit reads and copies more than %d bytes: %w", MaxFanOutBytes, lease.ErrLimit)
	case t.steps > MaxCommitSteps:
		return fmt.Errorf("the commit takes more than %d steps of routing: %w", MaxCommitSteps, lease.ErrLimit)
	}
	return nil
}

// store counts a message that q would take.
func (t *trial) store(q *queue, rec *record.Message, counted bool) error {
	if counted {
		t.count(q, 1, int64(len(rec.Body)))
	}
	return t.spend(size(rec)+copyBytes, 0)
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
	if err := t.spend(int(f.size), 0); err != nil {
		return err // before that is read and kept
	}
	steps := m.steps
	dead, to, err := m.letter(now, view, q, f, reason, s.Reason, f.attempt)
	if err == nil {
		err = t.spend(0, m.steps-steps)
	}
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
	steps := m.steps
	to, err := m.look(now, ch, view, p, t.to[:0])
	if t.to = to; err == nil {
		err = t.spend(0, m.steps-steps)
	}
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
