package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// A holder whose renewals vanish knows of its loss before the backend grants
// to the next.
func TestBlackHole(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, &lock.Options{TTL: 10 * time.Second})
		time.Sleep(time.Minute)
		b.always(hangs)
		<-le.Context().Done()
		if holder, _ := b.state("a"); holder != le.Holder() {
			t.Errorf("the backend gave the name away before the holder knew")
		}
		wantErr(t, "cause", context.Cause(le.Context()), lock.ErrExpired)
		b.always(none)
		wantErr(t, "Release", le.Release(t.Context()), lock.ErrNotHeld, lock.ErrExpired)
		synctest.Wait()
		wantFree(t, b) // released nevertheless
	})
}

func TestRenewByHand(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, &lock.Options{TTL: 10 * time.Second, NoRenew: true})
		time.Sleep(8 * time.Second)
		if err := le.Renew(t.Context()); err != nil || le.Remaining() != 9*time.Second {
			t.Errorf("Renew: %v, remaining %v", err, le.Remaining())
		}
		b.on("renew", away)
		wantErr(t, "Renew without a backend", le.Renew(t.Context()), lock.ErrUnavailable)
		time.Sleep(9 * time.Second)
		wantErr(t, "Check", le.Check(), lock.ErrExpired)
		wantErr(t, "Renew after the end", le.Renew(t.Context()), lock.ErrExpired)
	})
}

func TestRevokedAndLost(t *testing.T) {
	for refusal, cause := range map[error]error{lease.ErrRevoked: lock.ErrRevoked, lease.ErrBroken: lock.ErrBroken, lease.ErrNotHeld: lock.ErrLost} {
		t.Run(cause.Error(), func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				le := acquire(t, l, nil)
				b.mu.Lock()
				b.renew = refusal
				b.mu.Unlock()
				<-le.Context().Done()
				wantErr(t, "cause", context.Cause(le.Context()), cause)
				wantErr(t, "Release", le.Release(t.Context()), lock.ErrNotHeld, cause)
			})
		})
	}
}

func TestReleaseIsRepeated(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, nil)
		b.on("release", away, lost) // the third finds nothing
		if err := le.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		wantFree(t, b)
	})
}

func TestReleaseGoesOnInTheBackground(t *testing.T) {
	for name, ended := range map[string]bool{"ctx ends": false, "ctx has ended": true} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				le := acquire(t, l, nil)
				b.on("release", away)
				if !ended {
					b.on("release", hangs, away)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if ended {
					cancel()
				}
				err := le.Release(ctx)
				wantErr(t, "Release", err, lock.ErrUnknown, ctx.Err())
				wantErr(t, "Check", le.Check(), lock.ErrReleased)
				if err := l.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				wantFree(t, b)
			})
		})
	}
}

func TestDo(t *testing.T) {
	odd := errors.New("odd")
	for _, tt := range []struct {
		name string
		fn   func(ctx context.Context, le *lock.Lease) error
		want []error
	}{
		{"nil", func(ctx context.Context, le *lock.Lease) error { return ctx.Err() }, nil},
		{"released by itself", func(ctx context.Context, le *lock.Lease) error { return le.Release(ctx) }, nil},
		{"error", func(context.Context, *lock.Lease) error { return odd }, []error{odd}},
		{"lost", func(ctx context.Context, _ *lock.Lease) error { time.Sleep(time.Minute); return nil }, []error{lock.ErrNotHeld, lock.ErrExpired}},
		{"lost and error", func(ctx context.Context, _ *lock.Lease) error {
			<-ctx.Done()
			return errors.Join(odd, context.Cause(ctx))
		}, []error{odd, lock.ErrNotHeld, lock.ErrExpired}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				err := l.Do(t.Context(), "a", &lock.Options{NoRenew: true}, tt.fn)
				wantErr(t, "Do", err, tt.want...)
				if tt.want == nil && err != nil {
					t.Errorf("Do: %v", err)
				}
				if tt.name == "error" && err != odd {
					t.Errorf("Do changed the error to %v", err)
				}
				synctest.Wait()
				wantFree(t, b)
			})
		})
	}
}

func TestDoCtxReachesFn(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		err := l.Do(ctx, "a", nil, func(ctx context.Context, le *lock.Lease) error {
			cancel(why)
			<-ctx.Done()
			if le.Check() != nil {
				t.Errorf("the lease ended with ctx")
			}
			return context.Cause(ctx)
		})
		if err != why {
			t.Errorf("Do: %v", err)
		}
		wantFree(t, b)
	})
}

func TestDoReleasesOnPanic(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		defer func() {
			if recover() != "odd" {
				t.Errorf("the panic is gone")
			}
			wantFree(t, b)
		}()
		_ = l.Do(t.Context(), "a", nil, func(context.Context, *lock.Lease) error { panic("odd") })
	})
}

func TestClose(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, nil)
		waiting := make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context(), "a", nil)
			waiting <- err
		}()
		synctest.Wait()
		for range 2 {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		wantErr(t, "Acquire under way", <-waiting, lock.ErrClosed)
		wantErr(t, "cause", context.Cause(le.Context()), lock.ErrClosed)
		wantErr(t, "Release", le.Release(t.Context()), lock.ErrNotHeld, lock.ErrClosed)
		wantErr(t, "Renew", le.Renew(t.Context()), lock.ErrClosed)
		_, err := l.TryAcquire(t.Context(), "a", nil)
		wantErr(t, "TryAcquire", err, lock.ErrClosed)
		_, err = l.Info(t.Context(), "a")
		wantErr(t, "Info", err, lock.ErrClosed)
		wantErr(t, "Revoke", l.Revoke(t.Context(), "a", 0, nil), lock.ErrClosed)
		for _, err := range l.List(t.Context(), "") {
			wantErr(t, "List", err, lock.ErrClosed)
		}
		if !b.closed {
			t.Errorf("the connection is open")
		}
		wantFree(t, b)
	})
}

// Close ends in time though the backend answers nothing.
func TestCloseIsBounded(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		acquire(t, l, nil)
		b.always(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Acquire(ctx, "b", nil) // its cancel hangs, too
		wantErr(t, "Acquire", err, lock.ErrUnknown)
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestList(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		for _, name := range []string{"a", "c"} {
			if _, err := l.Acquire(t.Context(), name, nil); err != nil {
				t.Fatalf("Acquire: %v", err)
			}
		}
		var got []string
		for in, err := range l.List(t.Context(), "") {
			if err != nil {
				t.Fatalf("List: %v", err)
			}
			got = append(got, in.Name)
		}
		if strings.Join(got, " ") != "a c" {
			t.Errorf("List: %q", got)
		}
		if in, err := l.Info(t.Context(), "c"); err != nil || in.Name != "c" {
			t.Errorf("Info: %v, %v", in, err)
		}
		_, err := l.Info(t.Context(), "b")
		wantErr(t, "Info of a free name", err, lock.ErrNotFound)
		b.always(away)
		n := 0
		for _, err := range l.List(t.Context(), "") {
			wantErr(t, "List", err, lock.ErrUnavailable)
			n++
		}
		if n != 1 {
			t.Errorf("List yields %d times after an error", n)
		}
	})
}

func openFake(context.Context, string) (driver.Conn, error) { return newFake(), nil }

func init() { //nolint:gochecknoinits // not in the test: it may run several times
	lock.Register("fake", openFake)
	lock.Register("refusing", func(context.Context, string) (driver.Conn, error) {
		return nil, lease.Invalidf("url", "has an unknown parameter")
	})
}

func TestOpen(t *testing.T) {
	for url, text := range map[string]string{
		"":                 "must begin with a scheme",
		"fake":             "must begin with a scheme",
		"://x":             "must begin with a scheme",
		"unknown://pw@x":   `unknown scheme "unknown" (known: ` + strings.Join(lock.Schemes(), ", ") + ")",
		"refusing://pw@ab": "has an unknown parameter",
	} {
		_, err := lock.Open(t.Context(), url)
		wantErr(t, url, err, lock.ErrInvalid)
		if err != nil && (!strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "pw")) {
			t.Errorf("Open(%q): %v", url, err)
		}
	}
	l, err := lock.Open(t.Context(), "fake://")
	if err != nil || l.Caps().Backend != "fake" {
		t.Fatalf("Open: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for what, register := range map[string]func(){
		"twice": func() { lock.Register("fake", openFake) },
		"nil":   func() { lock.Register("nil", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register %s does not panic", what)
				}
			}()
			register()
		}()
	}
}
