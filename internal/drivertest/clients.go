// Package drivertest has what the tests of drivers over real servers have in
// common: a proxy that loses what it is told to lose, a holder in a process of
// its own, and the faults that every driver must stand. Package locktest has
// the promises; what is here shows that they are kept when something breaks.
//
// A driver's package calls PlayRole in its TestMain.
package drivertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// OpenConn opens a connection that is closed when the test ends.
func OpenConn(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := lock.OpenConn(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// OpenLocker opens a Locker that is closed when the test ends.
func OpenLocker(t testing.TB, url string) *lock.Locker {
	t.Helper()
	l, err := lock.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// Fresh returns a name that no run of a test has used.
func Fresh(t testing.TB) string {
	t.Helper()
	return t.Name() + "/" + rand.Text() + "/"
}

// Bounded returns a context that ends a test that hangs.
func Bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Until polls what another's call will change.
func Until(ctx context.Context, t testing.TB, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came that %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Waiting polls until so many wait for a name.
func Waiting(ctx context.Context, t testing.TB, l *lock.Locker, name string, n int) {
	t.Helper()
	Until(ctx, t, fmt.Sprintf("%d wait for %s", n, name), func() bool {
		in, err := l.Info(ctx, name)
		return err == nil && in.Waiting == n
	})
}
