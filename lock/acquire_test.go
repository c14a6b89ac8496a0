package lock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// acquire must succeed.
func acquire(t *testing.T, l *lock.Locker, o *lock.Options) *lock.Lease {
	t.Helper()
	le, err := l.Acquire(t.Context(), "a", o)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return le
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error %v; want one that matches %q", what, err, w)
		}
	}
}

func wantFree(t *testing.T, b *fake) {
	t.Helper()
	if holder, waiting := b.state("a"); holder != "" || waiting != 0 {
		t.Errorf("the name is held by %q, and %d wait", holder, waiting)
	}
}

func TestAcquireAndRelease(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, &lock.Options{TTL: 20 * time.Second})
		if le.Name() != "a" || le.Holder() == "" || le.Token() != 1 || le.Resumed() || le.Remaining() != 19*time.Second {
			t.Errorf("lease %q by %q, token %d, remaining %v", le.Name(), le.Holder(), le.Token(), le.Remaining())
		}
		_, err := l.TryAcquire(t.Context(), "a", nil)
		wantErr(t, "TryAcquire", err, lock.ErrHeld)
		if n := len(b.made("cancel")); n != 0 {
			t.Errorf("%d cancels of a request that did nothing", n)
		}
		if err := le.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		wantErr(t, "cause", context.Cause(le.Context()), lock.ErrReleased)
		wantErr(t, "Release again", le.Release(t.Context()), lock.ErrNotHeld)
		if n := len(b.made("release")); n != 1 || le.Remaining() != 0 {
			t.Errorf("%d releases, remaining %v", n, le.Remaining())
		}
		wantFree(t, b)
	})
}

// A lost reply is asked for again with the same ids, and one grant results.
func TestAcquireLostReply(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		b.on("acquire", away, lost, lost)
		if le := acquire(t, l, nil); le.Token() != 1 {
			t.Errorf("token %d; want that of the first request", le.Token())
		}
		calls := b.made("acquire")
		if len(calls) != 4 {
			t.Errorf("%d attempts", len(calls))
		}
		for _, c := range calls {
			if c != calls[0] {
				t.Errorf("attempt %+v after %+v", c, calls[0])
			}
		}
	})
}

func TestTryAcquireGivesUp(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		b.always(away)
		_, err := l.TryAcquire(t.Context(), "a", nil)
		wantErr(t, "TryAcquire without a backend", err, lock.ErrUnavailable)
		if errors.Is(err, lock.ErrUnknown) || len(b.made("acquire")) != 3 || len(b.made("cancel")) != 0 {
			t.Errorf("%v after %d attempts and %d cancels", err, len(b.made("acquire")), len(b.made("cancel")))
		}
		b.on("acquire", lost, away, away)
		_, err = l.TryAcquire(t.Context(), "a", nil)
		wantErr(t, "TryAcquire of unknown outcome", err, lock.ErrUnknown, lock.ErrUnavailable)
		synctest.Wait()
		wantFree(t, b)
	})
}

// A waiter comes back with its ticket when the backend restarts, is away for
// long, or loses replies.
func TestAcquireOutlastsOutage(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		first := acquire(t, l, nil)
		got := make(chan error, 1)
		go func() {
			le, err := l.Acquire(t.Context(), "a", nil)
			if err == nil && le.Token() != 2 {
				err = errors.New("another token")
			}
			got <- err
		}()
		synctest.Wait()
		b.mu.Lock()
		gone := b.clock.Now().Add(5 * time.Second)
		b.fault = func(op string) fault {
			if b.clock.Now() < gone && op != "renew" {
				return away
			}
			return none
		}
		b.mu.Unlock()
		b.forget()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := first.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("the waiter: %v", err)
		}
		calls := b.made("acquire")
		last := calls[len(calls)-1]
		if !last.ticket || last.id != calls[1].id {
			t.Errorf("the last attempt is %+v; want the ticket and the id of %+v", last, calls[1])
		}
	})
}

// TestAcquireOutlastsAnotherStore: the backend comes back with an empty store,
// which knows no ticket of the one before it.
func TestAcquireOutlastsAnotherStore(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		first := acquire(t, l, nil)
		got := make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context(), "a", nil)
			got <- err
		}()
		synctest.Wait()
		b.always(stale)
		b.forget()
		time.Sleep(time.Second)
		synctest.Wait()
		if _, waiting := b.state("a"); waiting != 1 {
			t.Errorf("%d wait in the new line", waiting)
		}
		b.always(none)
		if err := first.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("the waiter: %v", err)
		}
	})
}

// A wait that was thought lost with its connection may reach the backend late,
// and end the one that took its place. The request goes on from its place.
func TestAcquireOutlastsItsOwnShadow(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		first := acquire(t, l, nil)
		b.on("wait", displaced, displaced)
		got := make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context(), "a", nil)
			got <- err
		}()
		synctest.Wait()
		if err := first.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("the waiter: %v", err)
		}
		// An acquire that is refused so is refused for good.
		b.on("acquire", displaced)
		_, err := l.Acquire(t.Context(), "b", nil)
		wantErr(t, "Acquire", err, lock.ErrAlreadyHeld)
	})
}

func TestAcquireCtxEnds(t *testing.T) {
	for name, fault := range map[string]fault{"waiting": none, "unreachable": hangs, "granted unheard": hangDone} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				var first *lock.Lease
				if fault == none {
					first = acquire(t, l, nil)
				}
				b.on("acquire", fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, err := l.Acquire(ctx, "a", nil)
				wantErr(t, "Acquire", err, context.DeadlineExceeded)
				if fault != none {
					wantErr(t, "Acquire", err, lock.ErrUnknown)
				}
				if took := time.Since(start); took != time.Minute {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				if first != nil {
					if err := first.Release(t.Context()); err != nil {
						t.Errorf("Release: %v", err)
					}
				}
				wantFree(t, b)

				n := len(b.made("acquire"))
				_, err = l.Acquire(ctx, "a", nil)
				wantErr(t, "Acquire with an ended ctx", err, context.DeadlineExceeded)
				if len(b.made("acquire")) != n {
					t.Errorf("a request was sent for an ended ctx")
				}
			})
		})
	}
}

func TestAcquireCtxCause(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, _ *fake) {
		acquire(t, l, nil)
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := l.Acquire(ctx, "a", nil)
		wantErr(t, "Acquire", err, context.Canceled, why)
	})
}

// The withdrawal of a request is tried again, and Close waits for it.
func TestCancelIsRepeated(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		first := acquire(t, l, nil)
		b.on("cancel", away, lost, away)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Acquire(ctx, "a", nil)
		wantErr(t, "Acquire", err, context.DeadlineExceeded)
		if err := first.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := len(b.made("cancel")); n != 4 {
			t.Errorf("%d cancels", n)
		}
		wantFree(t, b)
	})
}

// The wait in the backend does not count against the TTL.
func TestLongWaitArrivesAlive(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, _ *fake) {
		first := acquire(t, l, nil)
		time.AfterFunc(time.Hour, func() {
			if err := first.Release(t.Context()); err != nil {
				t.Errorf("Release: %v", err)
			}
		})
		if le := acquire(t, l, &lock.Options{TTL: 10 * time.Second}); le.Remaining() != 9*time.Second {
			t.Errorf("remaining %v", le.Remaining())
		}
	})
}

// A grant whose reply took longer than its TTL is renewed before it is handed
// out, or given up.
func TestGrantArrivesLate(t *testing.T) {
	for name, refusal := range map[string]error{"renewed": nil, "lost": lease.ErrNotHeld, "revoked": lease.ErrRevoked} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				late := true
				b.delay = func(op string) time.Duration {
					if op == "acquire" && late {
						late = false
						return 9500 * time.Millisecond
					}
					return 0
				}
				b.renew = refusal
				le := acquire(t, l, &lock.Options{TTL: 10 * time.Second, Holder: "me", NoRenew: true})
				if le.Remaining() != 9*time.Second {
					t.Errorf("remaining %v", le.Remaining())
				}
				calls := b.made("acquire")
				if refusal == nil {
					if len(calls) != 1 || le.Token() != 1 {
						t.Errorf("requests %+v", calls)
					}
				} else if len(calls) != 2 || calls[0].id == calls[1].id || le.Token() != 2 {
					t.Errorf("requests %+v, token %d", calls, le.Token())
				}
			})
		})
	}
}

// TestGrantArrivesLateInAnOutage: the late grant cannot be given up at once.
func TestGrantArrivesLateInAnOutage(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		t.Helper()
		late := true
		b.delay = func(op string) time.Duration {
			if op == "acquire" && late {
				late = false
				return 9500 * time.Millisecond
			}
			return 0
		}
		b.renew = lease.ErrNotHeld
		b.on("cancel", away, away, away, away, away)
		if le := acquire(t, l, &lock.Options{TTL: 10 * time.Second, NoRenew: true}); le.Token() != 2 {
			t.Errorf("token %d", le.Token())
		}
		if n := len(b.made("cancel")); n != 6 {
			t.Errorf("%d cancels", n)
		}
	})
}

func TestRefusedBeforeTheDriver(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		for _, tt := range []struct {
			name string
			o    *lock.Options
			want error
		}{
			{"", nil, lock.ErrInvalid},
			{"a\x00", nil, lock.ErrInvalid},
			{"a", &lock.Options{TTL: time.Millisecond}, lock.ErrInvalid},
			{"a", &lock.Options{Permits: -1}, lock.ErrInvalid},
			{"a", &lock.Options{Resume: true}, lock.ErrInvalid},
			{"a", &lock.Options{Mode: lock.Shared}, lock.ErrUnsupported},
			{"a", &lock.Options{Permits: 2}, lock.ErrUnsupported},
			{"a", &lock.Options{LockDelay: time.Second}, lock.ErrUnsupported},
		} {
			_, err := l.Acquire(t.Context(), tt.name, tt.o)
			wantErr(t, "Acquire", err, tt.want)
			err = l.Do(t.Context(), tt.name, tt.o, nil)
			wantErr(t, "Do", err, tt.want)
		}
		wantErr(t, "Break", l.Revoke(t.Context(), "a", 0, &lock.RevokeOptions{Break: true}), lock.ErrUnsupported)
		wantErr(t, "Revoke", l.Revoke(t.Context(), "", 0, nil), lock.ErrInvalid)
		_, err := l.Info(t.Context(), "")
		wantErr(t, "Info", err, lock.ErrInvalid)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.calls) != 0 {
			t.Errorf("calls %+v", b.calls)
		}
	})
}

func TestSecondRequestOfHolder(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		acquire(t, l, &lock.Options{Holder: "me"})
		_, err := l.Acquire(t.Context(), "a", &lock.Options{Holder: "me"})
		wantErr(t, "Acquire", err, lock.ErrAlreadyHeld)
		synctest.Wait()
		if holder, _ := b.state("a"); holder != "me" {
			t.Errorf("held by %q after a refused request", holder)
		}
	})
}
