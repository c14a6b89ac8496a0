package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// queueConn is a queuedriver.Conn on the engine.
type queueConn struct{ *conn }

// Queues returns a connection for queues. Closing it leaves the Engine open.
func (e *Engine) Queues() queuedriver.Conn { return &queueConn{e.connect(false)} }

// Fork implements queuedriver.Forker.
func (q *queueConn) Fork() queuedriver.Conn { return q.engine.Queues() }

// Close implements queuedriver.Conn. What hangs on the connection ends with
// it.
func (q *queueConn) Close() error {
	q.end()
	q.parted()
	return q.conn.Close()
}

// parted ends what hangs on the connection if it is closed. Close calls it,
// and calls that may have been decided after that.
func (q *queueConn) parted() {
	select {
	case <-q.gone:
		q.core.post(&machine.CloseConn{Conn: q.id})
	default:
	}
}

// Caps implements queuedriver.Conn.
func (q *queueConn) Caps() queuedriver.Caps {
	c := queueCaps(q.core.memory)
	c.Store, c.MinLease = q.core.ident, q.core.params.minTTL
	return c
}

// Declare implements queuedriver.Conn.
func (q *queueConn) Declare(ctx context.Context, t *queuedriver.Topology, dryRun bool) ([]queuedriver.Change, error) {
	own := cloneTopology(t)
	caps := q.Caps()
	if err := own.Validate(&caps); err != nil {
		return nil, err
	}
	cmd := &machine.Declare{Topology: own, DryRun: dryRun, Conn: q.id}
	defer q.parted()
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Changes, cmd.Err
}

// cloneTopology parts what the machine keeps from what callers may change.
func cloneTopology(t *queuedriver.Topology) *queuedriver.Topology {
	own := &queuedriver.Topology{
		Exchanges: slices.Clone(t.Exchanges),
		Queues:    slices.Clone(t.Queues),
		Bindings:  slices.Clone(t.Bindings),
	}
	for i := range own.Queues {
		if d := own.Queues[i].DeadLetter; d != nil {
			route := *d
			own.Queues[i].DeadLetter = &route
		}
	}
	for i := range own.Bindings {
		if own.Bindings[i].Args != nil {
			own.Bindings[i].Args = cloneTable(own.Bindings[i].Args)
		}
	}
	return own
}

// Delete implements queuedriver.Conn.
func (q *queueConn) Delete(ctx context.Context, r *queuedriver.DeleteRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	own := *r
	if own.Binding != nil {
		b := *own.Binding
		b.Args = maps.Clone(b.Args.Normalize())
		own.Binding = &b
	}
	cmd := &machine.DeleteTopology{Request: &own, Conn: q.id}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// Topology implements queuedriver.Conn.
func (q *queueConn) Topology(ctx context.Context) (*queuedriver.Topology, error) {
	cmd := &machine.ReadTopology{}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cloneTopology(cmd.Topology), nil
}

// Publish implements queuedriver.Conn.
func (q *queueConn) Publish(ctx context.Context, ps []queuedriver.Publishing) ([]queuedriver.Receipt, error) {
	if err := queuedriver.ValidateBatch(ps); err != nil {
		return nil, err
	}
	cmd := &machine.Publish{Publishings: clonePublishings(ps)}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	for i := range cmd.Receipts {
		if cmd.Receipts[i].Err == nil {
			cmd.Receipts[i].Durability = q.core.durability()
		}
	}
	return cmd.Receipts, nil
}

// ownBody is from how many bytes on a body is copied into memory of its own:
// what is made to hold several is zeroed before.
const ownBody = 32 << 10

// clonePublishings copies a batch: a caller whose ctx ends takes its memory
// back while the writer may still be reading.
func clonePublishings(ps []queuedriver.Publishing) []queuedriver.Publishing {
	own := slices.Clone(ps)
	messages := make([]queuedriver.Message, len(ps))
	size := 0
	for i := range ps {
		if n := len(ps[i].Message.Body); n < ownBody {
			size += n
		}
	}
	bodies := make([]byte, 0, size)
	for i := range own {
		m := &messages[i]
		*m = *own[i].Message
		if len(m.Body) >= ownBody {
			m.Body = append([]byte(nil), m.Body...)
		} else {
			start := len(bodies)
			bodies = append(bodies, m.Body...)
			m.Body = bodies[start:len(bodies):len(bodies)]
		}
		if len(m.Headers) > 0 {
			m.Headers = cloneTable(m.Headers)
		}
		own[i].Message = m
	}
	return own
}

func cloneTable(h queuedriver.Headers) queuedriver.Headers {
	own := make(queuedriver.Headers, len(h))
	for k, v := range h {
		own[k] = cloneValue(v)
	}
	return own
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return slices.Clone(v)
	case queuedriver.Headers:
		return cloneTable(v)
	case []any:
		own := make([]any, len(v))
		for i := range v {
			own[i] = cloneValue(v[i])
		}
		return own
	}
	return v
}

// Receive implements queuedriver.Conn.
func (q *queueConn) Receive(ctx context.Context, r *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	own, caps := *r, q.Caps()
	if err := own.Validate(&caps); err != nil {
		return nil, err
	}
	cmd := &machine.Receive{Request: &own, Conn: q.id, Received: q.core.clock.Now()}
	defer q.parted()
	wait := ctx
	if own.Wait > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, own.Wait)
		defer cancel()
	}
	err := q.do(wait, cmd, q.handBack)
	switch {
	case err == nil:
	case wait.Err() != nil && ctx.Err() == nil && !errors.Is(err, lease.ErrClosed):
		// Its time is over. If it was granted something just now, that is
		// handed back when it is durable.
		q.core.post(&machine.GiveUp{Receive: cmd})
		return nil, nil
	default:
		if why := ended(ctx, q.gone); why != nil && errors.Is(err, lease.ErrUnknown) {
			q.core.post(&machine.GiveUp{Receive: cmd})
			err = why // nothing stays leased, so nothing is unknown
		}
		return nil, err
	}
	if cmd.Err != nil || len(cmd.Leased) == 0 {
		return nil, cmd.Err
	}
	return q.deliveries(cmd)
}

// handBack releases what was leased for a receiver that is gone.
func (q *queueConn) handBack(cmd machine.Command) {
	r := cmd.(*machine.Receive) //nolint:forcetypeassert // Receive has passed it
	if len(r.Leased) == 0 {
		return
	}
	s := &machine.Settle{Settlements: make([]queuedriver.Settlement, len(r.Leased))}
	for i, l := range r.Leased {
		s.Settlements[i] = queuedriver.Settlement{
			Ref:  queuedriver.Ref{Queue: r.Request.Queue, Seq: l.Seq, Token: l.Token},
			Verb: queuedriver.Release,
		}
	}
	q.core.post(s)
}

// deliveries reads the messages that were leased. One that cannot be read is
// reported, and comes back when its lease has run out: it is never dropped.
func (q *queueConn) deliveries(cmd *machine.Receive) ([]queuedriver.Delivery, error) {
	wall := q.core.wall().UnixNano()
	ds := make([]queuedriver.Delivery, 0, len(cmd.Leased))
	var failed error
	var seqs []uint64
	for rest := cmd.Leased; len(rest) > 0; {
		block := rest[0].Block
		seqs = append(seqs[:0], rest[0].Seq)
		for _, l := range rest[1:] {
			if l.Block != block || block == 0 { // 0: any
				break
			}
			seqs = append(seqs, l.Seq)
		}
		recs, err := q.core.store.Messages(cmd.QueueID, block, seqs)
		if err != nil {
			failed = err
			q.core.logger.Error("reading messages failed", "queue", cmd.Request.Queue, "block", block, "error", err)
		}
		for i, rec := range recs {
			if rec != nil {
				ds = append(ds, delivery(cmd, &rest[i], rec, wall))
			}
		}
		rest = rest[len(seqs):]
	}
	if len(ds) == 0 {
		return nil, failed
	}
	return ds, nil
}

func delivery(cmd *machine.Receive, l *machine.Leased, rec *record.Message, wall int64) queuedriver.Delivery {
	return queuedriver.Delivery{
		Ref:     queuedriver.Ref{Queue: cmd.Request.Queue, Seq: l.Seq, Token: l.Token},
		Message: rec.Message,
		Route:   rec.Route,
		Attempt: l.Attempt,
		TTL:     cmd.TTL,
		Waited:  cmd.Waited,
		Age:     time.Duration(max(0, wall-rec.Published)),
	}
}

// Settle implements queuedriver.Conn.
func (q *queueConn) Settle(ctx context.Context, ss []queuedriver.Settlement) ([]queuedriver.Outcome, error) {
	caps := q.Caps()
	if err := queuedriver.ValidateSettlements(ss, &caps); err != nil {
		return nil, err
	}
	cmd := &machine.Settle{Settlements: slices.Clone(ss)}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Outcomes, nil
}

// Detach implements queuedriver.Conn.
func (q *queueConn) Detach(ctx context.Context, queue, consumer string) error {
	cmd := &machine.Detach{Queue: queue, Consumer: consumer, Conn: q.id}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// CancelScheduled implements queuedriver.Conn.
func (q *queueConn) CancelScheduled(ctx context.Context, queue, id string) error {
	if err := queuedriver.ValidateCancel(queue, id); err != nil {
		return err
	}
	cmd := &machine.CancelScheduled{Queue: queue, ID: id}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// Stats implements queuedriver.Conn.
func (q *queueConn) Stats(ctx context.Context, r *queuedriver.StatsRequest) ([]queuedriver.QueueStats, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	own := *r
	cmd := &machine.ReadStats{Request: &own}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Stats, cmd.Err
}

// Peek implements queuedriver.Conn.
func (q *queueConn) Peek(ctx context.Context, r *queuedriver.PeekRequest) ([]queuedriver.Peeked, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	own := *r
	cmd := &machine.PeekMessages{Request: &own}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Peeked, cmd.Err
}

// Purge implements queuedriver.Conn.
func (q *queueConn) Purge(ctx context.Context, queue string) (int64, error) {
	if err := queuedriver.ValidateQueueName("queue", queue); err != nil {
		return 0, err
	}
	cmd := &machine.Purge{Queue: queue, Conn: q.id}
	if err := q.do(ctx, cmd, nil); err != nil {
		return 0, err
	}
	return cmd.Dropped, cmd.Err
}

// Redrive implements queuedriver.Conn.
func (q *queueConn) Redrive(ctx context.Context, r *queuedriver.RedriveRequest) (int64, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	own := *r
	if own.To != nil {
		to := *own.To
		own.To = &to
	}
	// A round that moved nothing may have looked at messages that cannot be
	// moved only.
	for from := uint64(0); ; {
		cmd := &machine.Redrive{Request: &own, Conn: q.id, From: from}
		if err := q.do(ctx, cmd, nil); err != nil {
			return 0, err
		}
		if cmd.Err != nil || cmd.Moved > 0 || cmd.Next == 0 {
			return cmd.Moved, cmd.Err
		}
		from = cmd.Next
	}
}
