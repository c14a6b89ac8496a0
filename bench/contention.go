package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// holdTime is how long each worker holds the name that all of them want.
const holdTime = time.Millisecond

// runContention has workers take turns at one name. It measures the turns a
// second, how long a worker waited, how evenly they were served, and the gaps:
// from a release, as it is called, to the return of the next acquire.
func runContention(open makeLocker, workers int) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, s *Servers, span time.Duration) Figures {
		t.Helper()
		c := &contention{acquire: open(t, s, workers), began: time.Now(), span: span}
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				if err := c.work(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() || len(c.waits) == 0 {
			t.Fatalf("%d turns", len(c.waits))
		}
		slices.Sort(c.gaps)
		f := latencies(c.waits)
		f[Rate] = float64(len(c.waits)) / (span - c.warm()).Seconds()
		f[LeastMost] = float64(slices.Min(c.served)) / float64(max(slices.Max(c.served), 1))
		f[GapP99] = quantile(c.gaps, 0.99)
		return f
	}
}

type contention struct {
	acquire locker
	began   time.Time
	span    time.Duration

	released atomic.Int64 // when the last release was called, since began

	mu          sync.Mutex
	served      []int // of each worker
	waits, gaps []time.Duration
}

func (c *contention) warm() time.Duration { return time.Duration(warmup * float64(c.span)) }

// work takes turns until the time is over. The turns of the warm-up, when all
// begin at once, are not counted.
func (c *contention) work(ctx context.Context) error {
	var waits, gaps []time.Duration
	for {
		start := time.Since(c.began)
		release, err := c.acquire(ctx, "contended")
		if ctx.Err() != nil && err != nil {
			break // the time is over
		}
		if err != nil {
			return err
		}
		now := time.Since(c.began)
		if now > c.warm() && now < c.span {
			waits = append(waits, now-start)
			gaps = append(gaps, now-time.Duration(c.released.Load()))
		}
		time.Sleep(holdTime) //nolint:forbidigo // it stands for the work under the lock
		c.released.Store(int64(time.Since(c.began)))
		if err := release(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served = append(c.served, len(waits))
	c.waits = append(c.waits, waits...)
	c.gaps = append(c.gaps, gaps...)
	return nil
}
