package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/go-zookeeper/zk"
	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock"
)

// lockTTL is long enough that no lock is lost while a machine is busy.
const lockTTL = 10 * time.Second

// locker acquires a name, waiting for it, and returns what releases it.
type locker func(ctx context.Context, name string) (release func(context.Context) error, err error)

// makeLocker opens a locker for so many workers.
type makeLocker func(t testing.TB, s *Servers, workers int) locker

// lockkeeperAt opens the locks of a URL: one client, and with a daemon one
// connection.
func lockkeeperAt(t testing.TB, url string) locker {
	t.Helper()
	l, err := lock.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	options := &lock.Options{TTL: lockTTL}
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		le, err := l.Acquire(ctx, name, options)
		if err != nil {
			return nil, err
		}
		return le.Release, nil
	}
}

// redsyncAt uses redsync as its documentation shows it, with a pool that has a
// connection for each worker, and tries without end.
func redsyncAt(t testing.TB, addr string, workers int) locker {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: addr, PoolSize: workers})
	t.Cleanup(func() { _ = client.Close() })
	rs := redsync.New(redsyncpool.NewPool(client))
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		m := rs.NewMutex(name, redsync.WithExpiry(lockTTL), redsync.WithTries(1<<30))
		if err := m.LockContext(ctx); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			ok, err := m.UnlockContext(ctx)
			if err == nil && !ok {
				err = fmt.Errorf("%s was not held", name)
			}
			return err
		}, nil
	}
}

// goZooKeeperAt uses the lock of github.com/go-zookeeper/zk over one client. Its
// Lock takes no context: one that is given up goes on.
func goZooKeeperAt(t testing.TB, addrs []string) locker {
	t.Helper()
	client, _, err := zk.Connect(addrs, lockTTL, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		l := zk.NewLock(client, "/go-zookeeper/"+strings.ReplaceAll(name, "/", "-"), zk.WorldACL(zk.PermAll))
		held := make(chan error, 1)
		go func() { held <- l.Lock() }()
		select {
		case err := <-held:
			return func(context.Context) error { return l.Unlock() }, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Whose locks are measured.
var (
	goZooKeeper makeLocker = func(t testing.TB, s *Servers, _ int) locker { t.Helper(); return goZooKeeperAt(t, s.ZooKeeper.Addrs()) }

	oursOnZooKeeper makeLocker = func(t testing.TB, s *Servers, _ int) locker {
		t.Helper()
		return lockkeeperAt(t, "zk://"+strings.Join(s.ZooKeeper.Addrs(), ",")+"/bench?tick="+realserver.ZooKeeperTick.String())
	}

	redsyncOnRedis  makeLocker = func(t testing.TB, s *Servers, n int) locker { t.Helper(); return redsyncAt(t, s.Redis.Addr(), n) }
	redsyncOnSynced makeLocker = func(t testing.TB, s *Servers, n int) locker {
		t.Helper()
		return redsyncAt(t, s.SyncedRedis.Addr(), n)
	}
	oursOnRedis makeLocker = func(t testing.TB, s *Servers, _ int) locker {
		t.Helper()
		return lockkeeperAt(t, "redis://"+s.Redis.Addr())
	}
	oursInMemory makeLocker = func(t testing.TB, _ *Servers, _ int) locker { t.Helper(); return lockkeeperAt(t, "mem://") }
	oursOnDisk   makeLocker = func(t testing.TB, _ *Servers, _ int) locker { t.Helper(); return lockkeeperAt(t, newStore(t)) }
	oursByDaemon makeLocker = func(t testing.TB, _ *Servers, _ int) locker {
		t.Helper()
		return lockkeeperAt(t, startDaemon(t, "").url)
	}
	oursByMemoryDaemon makeLocker = func(t testing.TB, _ *Servers, _ int) locker {
		t.Helper()
		return lockkeeperAt(t, startDaemon(t, "mem").url)
	}
)

// runCycles measures the acquire and release of names that nobody else wants,
// by so many workers at once.
func runCycles(open makeLocker, workers int) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, s *Servers, span time.Duration) Figures {
		t.Helper()
		acquire := open(t, s, workers)
		ctx := t.Context()
		names := make([]string, workers)
		for w := range names {
			names[w] = "free/" + strconv.Itoa(w)
		}
		return drive(t, span, workers, func(w int) error {
			release, err := acquire(ctx, names[w])
			if err != nil {
				return err
			}
			return release(ctx)
		})
	}
}
