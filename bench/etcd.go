package bench

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// etcdLibraryAt uses the locks of etcd's own library, concurrency, as its
// documentation shows them. A session stands for one client: its goroutines
// would all hold at once. So there is one for each worker.
func etcdLibraryAt(t testing.TB, addr string, workers int) locker {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	sessions := make(chan *concurrency.Session, workers)
	for range workers {
		s, err := concurrency.NewSession(client, concurrency.WithTTL(int(lockTTL.Seconds())))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		sessions <- s
	}
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		s := <-sessions
		m := concurrency.NewMutex(s, name)
		if err := m.Lock(ctx); err != nil {
			sessions <- s
			return nil, err
		}
		return func(ctx context.Context) error {
			defer func() { sessions <- s }()
			return m.Unlock(ctx)
		}, nil
	}
}

var (
	libraryOnEtcd makeLocker = func(t testing.TB, s *Servers, n int) locker {
		t.Helper()
		return etcdLibraryAt(t, s.Etcd.Addr(), n)
	}
	oursOnEtcd makeLocker = func(t testing.TB, s *Servers, _ int) locker {
		t.Helper()
		return lockkeeperAt(t, "etcd://"+s.Etcd.Addr())
	}
)

func etcdLines() []*Line {
	const theirs, ours = "etcd's concurrency", "ours on etcd"
	return described([]*Line{
		{Key: etcdLocks64, On: theirs, Durability: synced, Run: runCycles(libraryOnEtcd, many)},
		{Key: etcdLocks1, On: theirs, Durability: synced, Run: runCycles(libraryOnEtcd, 1)},
		{Key: etcdTurns20, On: theirs, Durability: synced, Run: runContention(libraryOnEtcd, contenders)},
		{Key: "etcd/ours/locks/64", On: ours, Durability: synced, Base: etcdLocks64, Run: runCycles(oursOnEtcd, many)},
		{Key: "etcd/ours/locks/1", On: ours, Durability: synced, Base: etcdLocks1, Run: runCycles(oursOnEtcd, 1)},
		{Key: "etcd/ours/contention/20", On: ours, Durability: synced, Base: etcdTurns20, Run: runContention(oursOnEtcd, contenders)},
	})
}
