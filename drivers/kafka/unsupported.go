package kafka

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, lease.ErrUnsupported) }

// Commit implements driver.Conn.
func (c *conn) Commit(_ context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	return nil, t.Validate(&c.caps)
}

// Result implements driver.Conn.
func (c *conn) Result(context.Context, string) (*driver.TxnResult, error) {
	return nil, unsupported("result of a commit")
}

// CancelScheduled implements driver.Conn.
func (c *conn) CancelScheduled(context.Context, string, string) error {
	return unsupported("cancel of a delayed message")
}

// Stats implements driver.Conn.
func (c *conn) Stats(context.Context, *driver.StatsRequest) ([]driver.QueueStats, error) {
	return nil, unsupported("statistics")
}

// Peek implements driver.Conn.
func (c *conn) Peek(context.Context, *driver.PeekRequest) ([]driver.Peeked, error) {
	return nil, unsupported("peek")
}

// ReadStream implements driver.Conn.
func (c *conn) ReadStream(context.Context, *driver.StreamRequest) (*driver.StreamBatch, error) {
	return nil, unsupported("streams")
}

// SaveOffset implements driver.Conn.
func (c *conn) SaveOffset(context.Context, string, string, uint64) error {
	return unsupported("streams")
}

// Offsets implements driver.Conn.
func (c *conn) Offsets(context.Context, string, string) ([]driver.Offset, error) {
	return nil, unsupported("streams")
}

// DeleteOffset implements driver.Conn.
func (c *conn) DeleteOffset(context.Context, string, string) error { return unsupported("streams") }

// PutSchedule implements driver.Conn.
func (c *conn) PutSchedule(context.Context, *driver.Schedule) error { return unsupported("schedules") }

// DeleteSchedule implements driver.Conn.
func (c *conn) DeleteSchedule(context.Context, string) error { return unsupported("schedules") }

// Schedules implements driver.Conn.
func (c *conn) Schedules(context.Context, *driver.SchedulesRequest) ([]driver.ScheduleInfo, error) {
	return nil, unsupported("schedules")
}

// Purge implements driver.Conn. What is in partitions of others is out of
// reach.
func (c *conn) Purge(context.Context, string) (int64, error) { return 0, unsupported("purge") }
