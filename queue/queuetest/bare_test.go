package queuetest_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// bare is a reference without any of the optional powers, and says so.
type bare struct{ *refConn }

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, lease.ErrUnsupported) }

func (b bare) Caps() driver.Caps {
	all := b.refConn.Caps()
	return driver.Caps{
		Backend: "bare", Durability: all.Durability, FIFO: true,
		// These are no powers, but what can be relied on.
		Numbered: true, OutlivesConn: true, ConfirmedAck: true, FreeRelease: true, OrderedRelease: true, CountsQueues: true,
		MinLease: all.MinLease, MaxLease: all.MaxLease, MaxBody: all.MaxBody,
	}
}

func (b bare) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	whole := driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
	if err := whole.Validate(caps(b)); err != nil {
		return nil, err
	}
	for _, e := range t.Exchanges {
		if e.Kind == driver.HeadersKind {
			return nil, unsupported("headers exchange")
		}
	}
	for _, q := range t.Queues {
		if q.DeadLetter != nil || q.DedupWindow > 0 {
			return nil, unsupported("dead letter or dedup")
		}
	}
	return b.refConn.Declare(ctx, t, dryRun)
}

func (b bare) Delete(ctx context.Context, r *driver.DeleteRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.IfEmpty {
		return unsupported("IfEmpty")
	}
	return b.refConn.Delete(ctx, r)
}

func caps(c driver.Conn) *driver.Caps {
	caps := c.Caps()
	return &caps
}

func (b bare) Publish(ctx context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	if err := driver.ValidateBatch(ps); err != nil {
		return nil, err
	}
	for i := range ps {
		if m := ps[i].Message; ps[i].Mandatory || m.OrderKey != "" || m.Delay > 0 || !m.NotBefore.IsZero() {
			return nil, unsupported("mandatory, order key or delay")
		}
	}
	return b.refConn.Publish(ctx, ps)
}

func (b bare) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	if err := driver.ValidateSettlements(ss, caps(b)); err != nil {
		return nil, err
	}
	out := make([]driver.Outcome, len(ss))
	for i := range ss {
		if ss[i].Verb == driver.Extend || ss[i].Verb == driver.Nack && (ss[i].Delay > 0 || ss[i].Backoff) {
			out[i].Err = unsupported("extend or delayed nack")
			continue
		}
		one, err := b.refConn.Settle(ctx, ss[i:i+1])
		if err != nil {
			return nil, err
		}
		out[i] = one[0]
	}
	if len(ss) == 0 {
		return b.refConn.Settle(ctx, ss)
	}
	return out, nil
}

func (b bare) Stats(context.Context, *driver.StatsRequest) ([]driver.QueueStats, error) {
	return nil, unsupported("Stats")
}

func (b bare) CancelScheduled(context.Context, string, string) error {
	return unsupported("CancelScheduled")
}

func (b bare) Peek(context.Context, *driver.PeekRequest) ([]driver.Peeked, error) {
	return nil, unsupported("Peek")
}

func (b bare) Purge(context.Context, string) (int64, error) { return 0, unsupported("Purge") }

func (b bare) Redrive(context.Context, *driver.RedriveRequest) (int64, error) {
	return 0, unsupported("Redrive")
}

func (b bare) Commit(_ context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	return nil, t.Validate(caps(b))
}

func (b bare) Result(context.Context, string) (*driver.TxnResult, error) {
	return nil, unsupported("Result")
}

func (b bare) ReadStream(context.Context, *driver.StreamRequest) (*driver.StreamBatch, error) {
	return nil, unsupported("ReadStream")
}

func (b bare) SaveOffset(context.Context, string, string, uint64) error {
	return unsupported("SaveOffset")
}

func (b bare) Offsets(context.Context, string, string) ([]driver.Offset, error) {
	return nil, unsupported("Offsets")
}

func (b bare) DeleteOffset(context.Context, string, string) error {
	return unsupported("DeleteOffset")
}

func (b bare) PutSchedule(context.Context, *driver.Schedule) error {
	return unsupported("PutSchedule")
}

func (b bare) DeleteSchedule(context.Context, string) error { return unsupported("DeleteSchedule") }

func (b bare) Schedules(context.Context, *driver.SchedulesRequest) ([]driver.ScheduleInfo, error) {
	return nil, unsupported("Schedules")
}
