package driver

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Unsupported is embedded by the Conn of a backend that has no commits,
// schedules, streams, statistics or peek: their methods return an error that
// names the power and is lease.ErrUnsupported. Caps must say the same. Commit is
// not among them: it checks what it is given, which Txn.Validate does.
type Unsupported struct{}

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, lease.ErrUnsupported) }

// Result implements Conn.
func (Unsupported) Result(context.Context, string) (*TxnResult, error) {
	return nil, unsupported("result of a commit")
}

// CancelScheduled implements Conn.
func (Unsupported) CancelScheduled(context.Context, string, string) error {
	return unsupported("cancel of a delayed message")
}

// Stats implements Conn.
func (Unsupported) Stats(context.Context, *StatsRequest) ([]QueueStats, error) {
	return nil, unsupported("statistics")
}

// Peek implements Conn.
func (Unsupported) Peek(context.Context, *PeekRequest) ([]Peeked, error) {
	return nil, unsupported("peek")
}

// ReadStream implements Conn.
func (Unsupported) ReadStream(context.Context, *StreamRequest) (*StreamBatch, error) {
	return nil, unsupported("streams")
}

// SaveOffset implements Conn.
func (Unsupported) SaveOffset(context.Context, string, string, uint64) error {
	return unsupported("streams")
}

// Offsets implements Conn.
func (Unsupported) Offsets(context.Context, string, string) ([]Offset, error) {
	return nil, unsupported("streams")
}

// DeleteOffset implements Conn.
func (Unsupported) DeleteOffset(context.Context, string, string) error { return unsupported("streams") }

// PutSchedule implements Conn.
func (Unsupported) PutSchedule(context.Context, *Schedule) error { return unsupported("schedules") }

// DeleteSchedule implements Conn.
func (Unsupported) DeleteSchedule(context.Context, string) error { return unsupported("schedules") }

// Schedules implements Conn.
func (Unsupported) Schedules(context.Context, *SchedulesRequest) ([]ScheduleInfo, error) {
	return nil, unsupported("schedules")
}
