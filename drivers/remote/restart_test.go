package remote

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/server"
)

// waitFor polls what another connection brings about.
func waitFor(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// waiting counts who waits for a name.
func waiting(ctx context.Context, l *lock.Locker, name string) int {
	info, err := l.Info(ctx, name)
	if err != nil {
		return 0
	}
	return info.Waiting
}

// TestWaitersOutlastARestart: on a durable store they keep their places.
func TestWaitersOutlastARestart(t *testing.T) {
	d := startOn(t, "file://"+t.TempDir()+"?min_ttl=50ms", nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := openLocker(ctx, t, d.url())
	held, err := l.Acquire(ctx, "a", &lock.Options{TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	type grant struct {
		waiter int
		token  lock.Token
		err    error
	}
	grants := make(chan grant, 3)
	for i := range 3 {
		waiter := openLocker(ctx, t, d.url())
		go func() {
			le, err := waiter.Acquire(ctx, "a", nil)
			if err != nil {
				grants <- grant{i, 0, err}
				return
			}
			grants <- grant{i, le.Token(), le.Release(ctx)}
		}()
		waitFor(ctx, t, "it waits", func() bool { return waiting(ctx, l, "a") == i+1 })
	}
	d.restart(t)
	waitFor(ctx, t, "all are back", func() bool { return waiting(ctx, l, "a") == 3 })
	if err := held.Release(ctx); err != nil {
		t.Errorf("the holder: %v", err)
	}
	last := held.Token()
	for i := range 3 {
		g := <-grants
		if g.err != nil || g.waiter != i || g.token <= last {
			t.Errorf("grant %d went to waiter %d with token %d after %d: %v", i, g.waiter, g.token, last, g.err)
		}
		last = g.token
	}
}

// TestWaiterOutlastsAnotherStore: a daemon in memory comes back knowing
// nobody. Its waiter gets in line anew.
func TestWaiterOutlastsAnotherStore(t *testing.T) {
	d := startOn(t, "mem://?min_ttl=50ms", nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := openLocker(ctx, t, d.url())
	held, err := l.Acquire(ctx, "a", &lock.Options{TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan error, 1)
	waiter := openLocker(ctx, t, d.url())
	go func() {
		le, err := waiter.Acquire(ctx, "a", nil)
		if err == nil {
			err = le.Release(ctx)
		}
		granted <- err
	}()
	waitFor(ctx, t, "it waits", func() bool { return waiting(ctx, l, "a") == 1 })
	d.restart(t)
	if err := <-granted; err != nil {
		t.Errorf("the waiter: %v", err)
	}
	if err := held.Release(ctx); !errors.Is(err, lease.ErrNotHeld) {
		t.Errorf("the lease of the lost store was released: %v", err)
	}
}

// TestOpenWithTokenAndTLS goes the way of a user: by URL alone.
func TestOpenWithTokenAndTLS(t *testing.T) {
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw})))
	token := write("token", secret+"\n")
	withToken := func(c *server.Config) { c.Tokens = []string{secret} }
	for _, url := range []string{
		startDaemon(t, nil),
		startDaemon(t, withToken) + "?token_file=" + token,
		startDaemon(t, func(c *server.Config) { withToken(c); c.TLS = cert.TLS.Clone() }) + "?token_file=" + token + "&ca_file=" + ca,
	} {
		locks := openLocker(t.Context(), t, url)
		if err := locks.Do(t.Context(), "a", nil, func(context.Context, *lock.Lease) error { return nil }); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		queues, err := queue.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if err := queues.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: "q"}}}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := queues.Publish(t.Context(), queue.Route{Key: "q"}, &queue.Message{Body: []byte("x")}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if err := queues.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := lock.Open(t.Context(), startDaemon(t, withToken))
	if !errors.Is(err, lock.ErrDenied) {
		t.Errorf("without a token: %v", err)
	}
}
