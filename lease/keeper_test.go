package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// backend is what a Keeper renews at. Its fields may be changed between calls.
type backend struct {
	mu      sync.Mutex
	batches [][]Due[int]
	inside  int
	most    int // calls at once
	answer  func(ctx context.Context, due []Due[int]) ([]Renewed, error)
}

func (b *backend) renew(ctx context.Context, due []Due[int]) ([]Renewed, error) {
	b.mu.Lock()
	b.batches = append(b.batches, due)
	b.inside++
	b.most = max(b.most, b.inside)
	answer := b.answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.inside--
		b.mu.Unlock()
	}()
	return answer(ctx, due)
}

// grant renews everything.
func grant(_ context.Context, due []Due[int]) ([]Renewed, error) {
	renewed := make([]Renewed, len(due))
	for i, d := range due {
		renewed[i].TTL = d.TTL
	}
	return renewed, nil
}

// hang answers when the context ends.
func hang(ctx context.Context, _ []Due[int]) ([]Renewed, error) {
	<-ctx.Done()
	return nil, ErrUnknown
}

func refuse(err error) func(context.Context, []Due[int]) ([]Renewed, error) {
	return func(_ context.Context, due []Due[int]) ([]Renewed, error) {
		renewed := make([]Renewed, len(due))
		for i := range due {
			renewed[i].Err = fmt.Errorf("wrapped: %w", err)
		}
		return renewed, nil
	}
}

func (b *backend) set(answer func(context.Context, []Due[int]) ([]Renewed, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

// calls returns how many calls there were since the last one.
func (b *backend) calls() [][]Due[int] {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.batches
	b.batches = nil
	return got
}

// skewedClock is a GoClock that can jump forwards, as CLOCK_BOOTTIME does when
// the machine wakes up: Go's timers have not noticed.
type skewedClock struct {
	Clock
	mu   sync.Mutex
	skew time.Duration
}

func (c *skewedClock) Now() Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Add(c.skew)
}

func (c *skewedClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
}

// run gives f a Keeper in a bubble, and closes it: synctest fails when a
// goroutine is left.
func run(t *testing.T, f func(t *testing.T, k *Keeper[int], b *backend, c *skewedClock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: grant}
		c := &skewedClock{Clock: GoClock()}
		k := NewKeeper(KeeperConfig[int]{Renew: b.renew, Clock: c, MaxBatch: 10})
		defer k.Close(ErrClosed)
		f(t, k, b, c)
	})
}

func hold(k *Keeper[int], ref int, ttl time.Duration, renew bool) *Held[int] {
	now := k.clock.Now()
	return k.Hold(context.Background(), ref, ttl, Deadline(now, now, 0, ttl), renew)
}

func wantCause(t *testing.T, h *Held[int], want error) {
	t.Helper()
	synctest.Wait()
	if got := context.Cause(h.Context()); got != want {
		t.Errorf("cause of lease %d: %v; want %v", h.Ref(), got, want)
	}
	if got := h.Check(); got != want {
		t.Errorf("Check of lease %d: %v; want %v", h.Ref(), got, want)
	}
}

func TestKeeperRenews(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		h := hold(k, 1, 9*time.Second, true)
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		if n := len(b.calls()); n != 0 {
			t.Errorf("%d renewals before a third of the TTL", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := b.calls(); len(got) != 1 || got[0][0] != (Due[int]{1, 9 * time.Second}) {
			t.Errorf("renewals at a third of the TTL: %v", got)
		}
		time.Sleep(time.Hour)
		wantCause(t, h, nil)
		if n := len(b.calls()); n != 1200 {
			t.Errorf("%d renewals in an hour; want one each 3 s", n)
		}
	})
}

func TestKeeperExpires(t *testing.T) {
	for _, tt := range []struct {
		name   string
		renew  bool
		answer func(context.Context, []Due[int]) ([]Renewed, error)
	}{
		{"not renewed", false, grant},
		{"unavailable", true, refuse(ErrUnavailable)},
		{"unknown", true, refuse(ErrUnknown)},
		{"unclassified", true, refuse(errors.New("odd"))},
		{"hanging", true, hang},
		{"failing", true, func(context.Context, []Due[int]) ([]Renewed, error) { return nil, ErrUnavailable }},
		{"too few results", true, func(context.Context, []Due[int]) ([]Renewed, error) { return nil, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
				b.set(tt.answer)
				h := hold(k, 1, 10*time.Second, tt.renew)
				time.Sleep(9*time.Second - 1)
				wantCause(t, h, nil)
				time.Sleep(time.Nanosecond)
				wantCause(t, h, ErrExpired)
				if n := len(b.calls()); tt.renew != (n >= 2) || n > 100 {
					t.Errorf("%d attempts to renew", n)
				}
			})
		})
	}
}

// A renewal that fails is tried again and makes up for it.
func TestKeeperRecovers(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		b.set(hang)
		h := hold(k, 1, 10*time.Second, true)
		time.Sleep(8 * time.Second)
		b.set(grant)
		time.Sleep(time.Hour)
		wantCause(t, h, nil)
	})
}

func TestKeeperRefused(t *testing.T) {
	for refusal, cause := range map[error]error{ErrNotHeld: ErrLost, ErrRevoked: ErrRevoked, ErrBroken: ErrBroken} {
		t.Run(cause.Error(), func(t *testing.T) {
			run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
				h := hold(k, 1, 9*time.Second, true)
				b.set(refuse(refusal))
				time.Sleep(3 * time.Second)
				wantCause(t, h, cause)
				if h.End(ErrReleased) {
					t.Errorf("End ended a lease that was over")
				}
			})
		})
	}
}

// A renewal that hangs delays neither the end nor the renewal of others.
func TestKeeperHangDelaysNobody(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		b.set(func(ctx context.Context, due []Due[int]) ([]Renewed, error) {
			if due[0].Ref == 1 {
				return hang(ctx, due)
			}
			return grant(ctx, due)
		})
		stuck := hold(k, 1, 60*time.Second, true)
		time.Sleep(20 * time.Second) // its renewal hangs
		fixed := hold(k, 2, time.Second, false)
		other := hold(k, 3, time.Second, true)
		time.Sleep(900 * time.Millisecond)
		wantCause(t, fixed, ErrExpired)
		time.Sleep(10 * time.Second)
		wantCause(t, other, nil)
		wantCause(t, stuck, nil)
	})
}

// The deadline counts from before the renewal was sent, and a reply after it
// brings nothing back.
func TestKeeperLateReply(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, c *skewedClock) {
		b.set(func(ctx context.Context, due []Due[int]) ([]Renewed, error) {
			time.Sleep(2 * time.Second)
			return grant(ctx, due)
		})
		h := hold(k, 1, 9*time.Second, true)
		start := c.Now()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, want := h.Deadline(), start.Add(3*time.Second+9*time.Second-900*time.Millisecond); got != want {
			t.Errorf("deadline %v; want %v", got, want)
		}
		b.set(func(ctx context.Context, due []Due[int]) ([]Renewed, error) {
			<-ctx.Done()
			time.Sleep(20 * time.Second) // ignores its context
			return grant(ctx, due)
		})
		time.Sleep(12 * time.Second)
		wantCause(t, h, ErrExpired)
		time.Sleep(time.Minute)
		wantCause(t, h, ErrExpired)
	})
}

// After a suspend Check is right at once, before any timer has fired.
func TestKeeperSuspend(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], _ *backend, c *skewedClock) {
		h := hold(k, 1, 10*time.Second, true)
		ctx := h.Context()
		c.jump(time.Hour)
		if err := h.Check(); err != ErrExpired {
			t.Errorf("Check after a suspend: %v", err)
		}
		if context.Cause(ctx) != ErrExpired {
			t.Errorf("Check did not end the context")
		}
		if err := h.RenewNow(context.Background()); err != ErrExpired {
			t.Errorf("RenewNow after a suspend: %v", err)
		}
	})
}

func TestKeeperBatches(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		b.set(func(ctx context.Context, due []Due[int]) ([]Renewed, error) {
			time.Sleep(time.Millisecond)
			return grant(ctx, due)
		})
		const leases = 1000
		var held []*Held[int]
		for i := range leases {
			held = append(held, hold(k, i, 30*time.Second, true))
		}
		if k.Len() != leases {
			t.Errorf("Len is %d", k.Len())
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		seen := 0
		for _, batch := range b.calls() {
			if len(batch) > 10 {
				t.Errorf("batch of %d", len(batch))
			}
			seen += len(batch)
		}
		if seen != leases || b.most > maxRenewCalls {
			t.Errorf("%d renewals, %d calls at once; want %d and at most %d", seen, b.most, leases, maxRenewCalls)
		}
		for i, h := range held {
			if i%2 == 0 {
				h.End(ErrReleased)
			}
		}
		time.Sleep(time.Minute)
		for i, h := range held {
			if i%2 == 0 {
				wantCause(t, h, ErrReleased)
			} else if err := h.Check(); err != nil {
				t.Fatalf("lease %d: %v", i, err)
			}
		}
	})
}

func TestRenewNow(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, c *skewedClock) {
		h := hold(k, 1, 10*time.Second, false)
		time.Sleep(8 * time.Second)
		if err := h.RenewNow(context.Background()); err != nil {
			t.Errorf("RenewNow: %v", err)
		}
		if got, want := h.Deadline(), c.Now().Add(9*time.Second); got != want {
			t.Errorf("deadline %v; want %v", got, want)
		}
		b.set(refuse(ErrUnavailable))
		if err := h.RenewNow(context.Background()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("RenewNow without a backend: %v", err)
		}
		wantCause(t, h, nil)
		b.set(hang)
		start := time.Now()
		if err := h.RenewNow(context.Background()); !errors.Is(err, ErrUnknown) || time.Since(start) > 4*time.Second {
			t.Errorf("hanging RenewNow: %v after %v", err, time.Since(start))
		}
		b.set(refuse(ErrNotHeld))
		if err := h.RenewNow(context.Background()); err != ErrLost {
			t.Errorf("refused RenewNow: %v", err)
		}
		wantCause(t, h, ErrLost)
	})
}

// A lease is renewed by one call at a time, so that the last reply rules.
func TestRenewNowTakesTurns(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		b.set(func(ctx context.Context, due []Due[int]) ([]Renewed, error) {
			time.Sleep(time.Second)
			return grant(ctx, due)
		})
		h := hold(k, 1, 30*time.Second, true)
		time.Sleep(10 * time.Second)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := h.RenewNow(context.Background()); err != nil {
					t.Errorf("RenewNow: %v", err)
				}
			})
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		synctest.Wait()
		if err := h.RenewNow(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("RenewNow with an ended ctx while another is under way: %v", err)
		}
		wg.Wait()
		if b.most != 1 {
			t.Errorf("%d renewals of one lease at once", b.most)
		}
	})
}

// A shorter TTL counts from when it is asked for, even if the reply is lost.
func TestSetTTLShorter(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, c *skewedClock) {
		h := hold(k, 1, time.Minute, false)
		h.SetTTL(10 * time.Second)
		b.set(func(context.Context, []Due[int]) ([]Renewed, error) { return nil, ErrUnknown })
		if err := h.RenewNow(context.Background()); !errors.Is(err, ErrUnknown) {
			t.Errorf("RenewNow: %v", err)
		}
		if got, want := h.Deadline(), c.Now().Add(9*time.Second); got != want {
			t.Errorf("deadline %v; want %v", got, want)
		}
		time.Sleep(9 * time.Second)
		wantCause(t, h, ErrExpired)
	})
}

func TestKeeperClose(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], b *backend, _ *skewedClock) {
		b.set(hang)
		a, c := hold(k, 1, 9*time.Second, true), hold(k, 2, time.Minute, false)
		time.Sleep(4 * time.Second) // a renewal hangs
		byHand := make(chan error)
		go func() { byHand <- c.RenewNow(context.Background()) }()
		synctest.Wait()
		refs := k.Close(ErrClosed)
		if len(refs) != 2 || refs[0]+refs[1] != 3 {
			t.Errorf("Close ended %v; want 1 and 2", refs)
		}
		if err := <-byHand; err != ErrClosed {
			t.Errorf("RenewNow during Close: %v", err)
		}
		wantCause(t, a, ErrClosed)
		if refs := k.Close(ErrLost); len(refs) != 0 {
			t.Errorf("the second Close ended %v", refs)
		}
		wantCause(t, hold(k, 3, time.Minute, true), ErrClosed)
	})
}

func TestHoldOfWhatIsOver(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], _ *backend, c *skewedClock) {
		h := k.Hold(context.Background(), 1, time.Second, c.Now(), true)
		wantCause(t, h, ErrExpired)
	})
}

type ctxKey struct{}

func TestContextHasValuesOnly(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper[int], _ *backend, c *skewedClock) {
		parent, cancel := context.WithCancel(context.WithValue(context.Background(), ctxKey{}, "v"))
		h := k.Hold(parent, 1, time.Second, c.Now().Add(time.Second), false)
		cancel()
		if h.Context().Err() != nil || h.Context().Value(ctxKey{}) != "v" || h.Context() != h.Context() {
			t.Errorf("the lease's context ended with its parent, or has not its values, or changes")
		}
		// What hangs on the context may use the lease.
		done := make(chan error)
		context.AfterFunc(h.Context(), func() { done <- h.Check() })
		if err := <-done; err != ErrExpired {
			t.Errorf("Check in an AfterFunc: %v", err)
		}
	})
}

// BenchmarkKeeper holds 100,000 leases; what is timed is adding and ending one
// more.
func BenchmarkKeeper(b *testing.B) {
	be := &backend{answer: grant}
	k := NewKeeper(KeeperConfig[int]{Renew: be.renew})
	defer k.Close(ErrClosed)
	for i := range 100_000 {
		hold(k, i, time.Minute, true)
	}
	b.ReportAllocs()
	for b.Loop() {
		hold(k, 0, time.Minute, true).End(ErrReleased)
	}
}
