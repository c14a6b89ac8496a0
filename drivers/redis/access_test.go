package redis

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// leastACL is what the package comment says that a user needs.
const leastACL = "on >secret resetkeys ~lockkeeper:* resetchannels &lockkeeper:* -@all " +
	"+@connection +@read +@write +@scripting +@pubsub +time +wait"

// walk does one of everything with the locks at a URL.
func walk(t *testing.T, url string) {
	t.Helper()
	ctx := drivertest.Bounded(t)
	one, two := drivertest.OpenLocker(t, url), drivertest.OpenLocker(t, url)
	held, err := one.Campaign(ctx, "walk/a", []byte("v"), nil)
	if err != nil {
		t.Fatal(err)
	}
	watched := make(chan error, 1)
	go func() {
		for e, err := range two.Watch(ctx, "walk/") {
			if err != nil || e.Kind == lock.EventSynced {
				watched <- err
				return
			}
		}
	}()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		set, err := two.AcquireAll(ctx, []string{"walk/a", "walk/b"}, nil)
		if err == nil {
			err = set.Release(ctx)
		}
		next <- err
	}()
	for waiting := 0; waiting == 0; {
		in, err := one.Info(ctx, "walk/a")
		if err != nil {
			t.Fatal(err)
		}
		waiting = in.Waiting
	}
	if err := held.Proclaim(ctx, []byte("w")); err != nil {
		t.Errorf("proclaim: %v", err)
	}
	for _, err := range one.List(ctx, "walk/") {
		if err != nil {
			t.Errorf("list: %v", err)
		}
	}
	began := time.Now()
	if err := held.Release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
	if err := <-next; err != nil {
		t.Errorf("the next: %v", err)
	}
	if took := time.Since(began); took > 700*time.Millisecond {
		t.Errorf("the next was granted after %v: nobody called it", took)
	}
	again, err := one.Acquire(ctx, "walk/a", &lock.Options{TTL: MinTTL})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Revoke(ctx, "walk/a", again.Token(), &lock.RevokeOptions{Break: true}); err != nil {
		t.Errorf("break: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	_, addr, ca := realserver.StartRedisTLS(t)
	walk(t, "rediss://"+addr+"?ca_file="+ca)
	for url, says := range map[string]string{
		"rediss://" + addr: "certificate",
		"rediss://" + strings.Replace(addr, "127.0.0.1", "localhost", 1) + "?ca_file=" + ca: "localhost",
		"redis://" + addr + "?timeout=500ms":                                                "",
	} {
		c, err := Open(drivertest.Bounded(t), url)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, lease.ErrUnavailable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want it to say %q", url, err, says)
		}
	}
}

// A user that may do no more than the package comment says can do all.
func TestUserWithTheLeastRights(t *testing.T) {
	t.Parallel()
	s, addr, ca := realserver.StartRedisTLS(t)
	ctx := drivertest.Bounded(t)
	mustRedis(ctx, t, s, append([]string{"ACL", "SETUSER", "locks"}, strings.Fields(leastACL)...)...)
	mustRedis(ctx, t, s, "ACL", "SETUSER", "default", "off")
	walk(t, "redis://locks:secret@"+s.Addr())
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	walk(t, "rediss://locks@"+addr+"?ca_file="+ca+"&password_file="+password)
	for _, url := range []string{
		"redis://" + s.Addr(), "redis://:secret@" + s.Addr(), "redis://locks:wrong@" + s.Addr(),
	} {
		c, err := Open(ctx, url)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, lease.ErrDenied) || err != nil && strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: %v; want it denied", url, err)
		}
	}
	// Keys that the user may not touch are a clear error of the first call.
	c, err := Open(ctx, "redis://locks:secret@"+s.Addr()+"?prefix=other:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, err = c.Acquire(context.WithoutCancel(ctx), &driver.Request{Name: "n", Holder: "h", TTL: time.Minute})
	if !errors.Is(err, lease.ErrDenied) {
		t.Errorf("keys of others: %v; want them denied", err)
	}
}
