package bench

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// warmup is the part of a span that is not counted.
const warmup = 0.15

// drive has workers do op again and again for span, and returns how often a
// second, and how long each took. The first failure ends it.
func drive(t testing.TB, span time.Duration, workers int, op func(worker int) error) Figures {
	t.Helper()
	var failure atomic.Pointer[error]
	var mu sync.Mutex
	var all []time.Duration
	began := time.Now()
	from := began.Add(time.Duration(warmup * float64(span)))
	until := began.Add(span)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var own []time.Duration
			for start := time.Now(); failure.Load() == nil && start.Before(until); {
				if err := op(w); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				end := time.Now()
				if start.After(from) {
					own = append(own, end.Sub(start))
				}
				start = end
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	if err := failure.Load(); err != nil {
		t.Fatal(*err)
	}
	took := time.Since(from)
	f := latencies(all)
	f[Rate] = float64(len(all)) / took.Seconds()
	return f
}
