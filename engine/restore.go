package engine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// restore fills the machine from the store. Locks come last, so that the time
// it takes to load the queues is not taken from their leases.
func (c *core) restore() error {
	meta := c.store.Meta()
	now := c.now()
	tokens := machine.NewTokens(max(meta.TokenReserve, c.params.tokenBase), now.Wall)
	c.queues = machine.NewQueues(tokens)
	c.queues.RestoreQueueIDs(meta.NextQueueID)
	c.locks = machine.NewLocks(tokens, meta.Incarnation)
	c.commits = machine.NewCommits(c.queues, c.locks)
	if err := c.restoreTopology(now); err != nil {
		return fmt.Errorf("loading queues: %w", err)
	}
	err := c.store.ResultBuckets(func(class byte, bucket int64) error {
		c.commits.RestoreBucket(class, bucket)
		return nil
	})
	if err != nil {
		return fmt.Errorf("loading results of commits: %w", err)
	}
	now = c.now()
	err = c.store.Locks(func(name string, l *record.Lock) error {
		c.locks.Restore(now, name, l)
		return nil
	})
	if err != nil {
		return fmt.Errorf("loading locks: %w", err)
	}
	return nil
}

func (c *core) restoreTopology(now machine.Time) error {
	err := c.store.Exchanges(func(e *queuedriver.Exchange) error {
		c.queues.RestoreExchange(*e)
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.Queues(func(q *record.Queue) error {
		if err := c.restoreQueue(now, q); err != nil {
			return fmt.Errorf("queue %q: %w", q.Spec.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.Bindings(func(b *queuedriver.Binding) error {
		return c.queues.RestoreBinding(*b)
	})
	if err != nil {
		return err
	}
	return c.restoreSchedules()
}

func (c *core) restoreQueue(now machine.Time, q *record.Queue) error {
	counters, err := c.store.Counters(q.ID)
	if err != nil {
		return err
	}
	s := machine.QueueState{
		Queue:    *q,
		Acks:     make(map[uint64]*record.AckSet),
		Attempts: make(map[uint64]record.Attempt),
		Fetches:  make(map[uint64]*record.Fetch),
	}
	if counters.NextSeq != 0 {
		s.Counters = &counters
	}
	if s.Lower, err = c.store.Levels(q.ID); err != nil {
		return err
	}
	err = c.store.Acks(q.ID, func(segment uint64, a *record.AckSet) error {
		s.Acks[segment] = a
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.Attempts(q.ID, func(seq uint64, a record.Attempt) error {
		s.Attempts[seq] = a
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.Fetches(q.ID, func(fetch uint64, f *record.Fetch) error {
		s.Fetches[fetch] = f
		return nil
	})
	if err != nil {
		return err
	}
	err = c.store.Offsets(q.ID, func(consumer string, offset uint64) error {
		if s.Offsets == nil {
			s.Offsets = make(map[string]uint64)
		}
		s.Offsets[consumer] = offset
		return nil
	})
	if err != nil {
		return err
	}
	if s.NextDue, err = c.store.NextDue(q.ID); err != nil {
		return err
	}
	return c.queues.RestoreQueue(now, c.store, &s)
}
