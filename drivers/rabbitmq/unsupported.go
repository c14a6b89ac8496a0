package rabbitmq

import (
	"context"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Commit implements driver.Conn.
func (c *conn) Commit(_ context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	return nil, t.Validate(&c.caps)
}
