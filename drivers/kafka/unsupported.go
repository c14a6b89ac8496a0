package kafka

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Commit implements driver.Conn.
func (c *conn) Commit(_ context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	return nil, t.Validate(&c.caps)
}

// Purge implements driver.Conn. What is in partitions of others is out of
// reach.
func (c *conn) Purge(context.Context, string) (int64, error) {
	return 0, fmt.Errorf("purge: %w", lease.ErrUnsupported)
}
