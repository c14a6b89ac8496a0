package engine

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// ReadStream implements queuedriver.Conn. The machine says which offsets
// there are, and durable; this goroutine reads them. Who has waited for them
// has them from the round that stored them.
func (q *queueConn) ReadStream(ctx context.Context, r *queuedriver.StreamRequest) (*queuedriver.StreamBatch, error) {
	own := *r
	if err := own.Validate(); err != nil {
		return nil, err
	}
	wait := ctx
	if own.Wait > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, own.Wait)
		defer cancel()
	}
	for searched := uint64(0); ; {
		cmd := &machine.ReadStream{Request: &own, Searched: searched}
		if err := q.findStream(ctx, wait, cmd); err != nil {
			return nil, err
		}
		if cmd.Err != nil {
			return nil, cmd.Err
		}
		b, err := q.readRange(cmd)
		if err != nil || len(b.Messages) > 0 || cmd.From == cmd.End {
			return b, err
		}
		// What there was has been dropped since, or is not as late as it was
		// asked for.
		if own.From == queuedriver.FromTime {
			searched = cmd.End
		}
	}
}

// findStream has a read decided. If its time is over it has found nothing, or
// what was stored at the last moment.
func (q *queueConn) findStream(ctx, wait context.Context, cmd *machine.ReadStream) error {
	err := q.do(wait, cmd, nil)
	if err == nil {
		return nil
	}
	leave := &machine.LeaveStream{Read: cmd}
	if why := ended(ctx, q.gone); why != nil || wait.Err() == nil {
		q.core.post(leave)
		if why != nil {
			return why // reading changes nothing: nothing is unknown
		}
		return err
	}
	// When this is decided the machine has done with cmd.
	if err := q.do(ctx, leave, nil); err != nil {
		q.core.post(leave)
		return err
	}
	if cmd.QueueID == 0 && cmd.Err == nil { // it was not decided before
		now := *cmd.Request
		now.Wait = 0
		*cmd = machine.ReadStream{Request: &now, Searched: cmd.Searched}
		return q.do(ctx, cmd, nil)
	}
	return nil
}

// readRange reads what the machine found, as far as the request goes.
func (q *queueConn) readRange(cmd *machine.ReadStream) (*queuedriver.StreamBatch, error) {
	r := cmd.Request
	b := &queuedriver.StreamBatch{Next: cmd.From, First: cmd.First, End: cmd.End}
	from, size := cmd.From, 0
	add := func(n uint64, rec *record.Message) bool {
		if len(b.Messages) > 0 && (len(b.Messages) == r.Max || size+len(rec.Body) > r.MaxBytes) {
			return false
		}
		size += len(rec.Body)
		own := *rec.Message // others may have it too
		b.Messages = append(b.Messages, queuedriver.StreamMessage{
			Offset: n, Stored: time.Unix(0, rec.Published).UTC(), Route: rec.Route, Message: &own,
		})
		b.Next = n + 1
		return len(b.Messages) < r.Max
	}
	for i := range cmd.Fresh {
		if !add(cmd.From+uint64(i), &cmd.Fresh[i]) {
			break
		}
	}
	if cmd.Fresh != nil {
		return b, nil
	}
	if r.From == queuedriver.FromTime {
		var err error
		if from, err = q.core.store.SeekTime(cmd.QueueID, from, cmd.End, r.Time.UnixNano()); err != nil {
			return nil, err
		}
		b.Next = 0
	}
	err := q.core.store.Range(cmd.QueueID, from, cmd.End, add)
	if err != nil && len(b.Messages) == 0 {
		q.core.logger.Error("reading a stream failed", "queue", r.Queue, "offset", from, "error", err)
		return nil, err
	}
	return b, nil // a message that is damaged is told to who begins with it
}

// SaveOffset implements queuedriver.Conn.
func (q *queueConn) SaveOffset(ctx context.Context, stream, consumer string, offset uint64) error {
	if err := queuedriver.ValidateOffset(stream, consumer, offset); err != nil {
		return err
	}
	cmd := &machine.SaveOffset{Stream: stream, Consumer: consumer, Offset: offset}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// Offsets implements queuedriver.Conn.
func (q *queueConn) Offsets(ctx context.Context, stream, consumer string) ([]queuedriver.Offset, error) {
	if err := queuedriver.ValidateOffsets(stream, consumer); err != nil {
		return nil, err
	}
	cmd := &machine.ReadOffsets{Stream: stream, Consumer: consumer}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Offsets, cmd.Err
}

// DeleteOffset implements queuedriver.Conn.
func (q *queueConn) DeleteOffset(ctx context.Context, stream, consumer string) error {
	if err := queuedriver.ValidateOffset(stream, consumer, 1); err != nil {
		return err
	}
	cmd := &machine.DeleteOffset{Stream: stream, Consumer: consumer}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}
