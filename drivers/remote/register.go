package remote

import (
	"context"

	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/queue"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func init() {
	for _, scheme := range []string{"http", "https"} {
		lock.Register(scheme, openLocks)
		queue.Register(scheme, openQueues)
	}
}

func openLocks(ctx context.Context, url string) (lockdriver.Conn, error) {
	c, err := Open(ctx, url)
	if err != nil {
		return nil, err
	}
	return c.Locks()
}

func openQueues(ctx context.Context, url string) (queuedriver.Conn, error) {
	c, err := Open(ctx, url)
	if err != nil {
		return nil, err
	}
	return c.Queues()
}
