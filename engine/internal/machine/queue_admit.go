package machine

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// admit returns why a queue does not take a message, or nil. A message for
// several queues is in none if one of them does not take it.
func (q *queue) admit(rec *record.Message) error {
	if len(q.levels) > 1 && rec.OrderKey != "" {
		return lease.Invalidf("message.order_key", "is not for queue %q: it has priorities, which would break the order", q.spec.Name)
	}
	return nil
}

// admitAll is admit for several queues.
func admitAll(rec *record.Message, to []*queue) error {
	for _, q := range to {
		if err := q.admit(rec); err != nil {
			return err
		}
	}
	return nil
}

// admitNew is admitAll for those that do not know the message already.
func admitNew(rec *record.Message, to []*queue) error {
	for _, q := range to {
		if q.known {
			continue
		}
		if err := q.admit(rec); err != nil {
			return err
		}
	}
	return nil
}
