package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	_ "github.com/lockkeeper/lockkeeper/drivers/etcd"      // etcd://, etcds://
	_ "github.com/lockkeeper/lockkeeper/drivers/kafka"     // kafka://: queues
	_ "github.com/lockkeeper/lockkeeper/drivers/migrate"   // migrate://
	_ "github.com/lockkeeper/lockkeeper/drivers/rabbitmq"  // amqp://, amqps://: queues
	_ "github.com/lockkeeper/lockkeeper/drivers/redis"     // redis://, rediss://, unix://, redis+sentinel://, redis+cluster://
	_ "github.com/lockkeeper/lockkeeper/drivers/remote"    // http:// and https://
	_ "github.com/lockkeeper/lockkeeper/drivers/zookeeper" // zk://
	_ "github.com/lockkeeper/lockkeeper/engine"            // file:// and mem://
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// requestTimeout bounds commands that only ask or change something once.
const requestTimeout = 30 * time.Second

// retryFor is for how long publishes and settlements ride over a server that
// restarts.
const retryFor = 15 * time.Second

// completionTimeout bounds what shell completion may cost.
const completionTimeout = time.Second

// openLocks opens the locks of --url. The caller closes them.
func (a *app) openLocks(ctx context.Context) (*lock.Locker, error) {
	if err := a.checkURL(); err != nil {
		return nil, err
	}
	conn, err := lock.OpenConn(ctx, a.url)
	if err != nil {
		return nil, err
	}
	return lock.New(conn, &lock.Config{Logger: a.logger(slog.LevelWarn)}), nil
}

// openQueues opens the queues of --url. The caller closes them.
func (a *app) openQueues(ctx context.Context) (*queue.Broker, error) {
	if err := a.checkURL(); err != nil {
		return nil, err
	}
	conn, err := queue.OpenConn(ctx, a.url)
	if err != nil {
		return nil, err
	}
	return queue.New(conn, &queue.Config{Logger: a.logger(slog.LevelWarn), RetryFor: retryFor}), nil
}

// checkURL refuses the memory of this process, which nothing else can see.
func (a *app) checkURL() error {
	if strings.HasPrefix(a.url, "mem:") {
		return &failure{status: StatusUsage, err: fmt.Errorf(
			"%s lives in one process only: start `lockkeeper serve --data mem`, or use file://DIR", a.url)}
	}
	return nil
}

// withLocks runs fn once with the locks of --url.
func (a *app) withLocks(ctx context.Context, fn func(context.Context, *lock.Locker) error) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	locks, err := a.openLocks(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	return fn(ctx, locks)
}

// withQueues runs fn once with the queues of --url.
func (a *app) withQueues(ctx context.Context, fn func(context.Context, *queue.Broker) error) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	queues, err := a.openQueues(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	return fn(ctx, queues)
}

// closing calls fn and keeps its error unless there is one already.
func closing(err *error, fn func() error) { //nolint:gocritic // the pointer is to the caller's result
	if e := fn(); *err == nil {
		*err = e
	}
}

// logger writes what goes on in the background to standard error.
func (a *app) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
}
