package engine

import (
	"context"

	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/queue"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func init() {
	for _, scheme := range []string{"mem", "file"} {
		lock.Register(scheme, openLocks)
		queue.Register(scheme, openQueues)
	}
}

// openLocks opens a connection that closes its engine with it.
func openLocks(ctx context.Context, url string) (lockdriver.Conn, error) {
	e, err := Open(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	return newLockConn(e.connect(true)), nil
}

func openQueues(ctx context.Context, url string) (queuedriver.Conn, error) {
	e, err := Open(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	return &queueConn{e.connect(true)}, nil
}
