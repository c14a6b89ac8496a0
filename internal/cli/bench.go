package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
)

// Limits of the benchmarks, so that a typing error does not take a server down.
const (
	maxBenchDuration    = time.Hour
	maxBenchConcurrency = 10_000
	maxBenchNames       = 1_000_000
	benchCleanup        = 30 * time.Second
)

// benchBounds says how long a benchmark runs, and with how many at once.
type benchBounds struct {
	duration    time.Duration
	count       int
	concurrency int
}

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		GroupID: groupServer,
		Short:   "Measure locks or queues",
		Long: `Measure locks or queues on the server at --url, or on a store in this process
with --url file://DIR or mem://. It uses names of its own that begin with bench-
or bench/, and leaves nothing behind.

It ends after --duration, or after --count if that comes first. On a terminal it
shows the rates and latencies so far. Ctrl-C ends it early: it prints what it has
measured, removes what it made, and exits with 130; a second Ctrl-C ends it at
once.

P50 is the median; of P99 one in a hundred took longer, of P99.9 one in a
thousand. With --json each row is a line, with latencies in microseconds.`,
		Example: `  lockkeeper bench locks
  lockkeeper bench queues --duration 10s --size 1024
  lockkeeper bench locks --url file:///tmp/bench-data --concurrency 64
  lockkeeper bench queues --json | jq '{what, per_second, p99_us}'`,
	}
	return group(cmd, a.benchLocksCommand(), a.benchQueuesCommand())
}

func (b *benchBounds) flags(cmd *cobra.Command, concurrency int, what string) {
	cmd.Flags().DurationVar(&b.duration, "duration", 5*time.Second, "end after so long")
	cmd.Flags().IntVar(&b.count, "count", 0, "end after so many; 0: only by --duration")
	cmd.Flags().IntVar(&b.concurrency, "concurrency", concurrency, what)
}

func (b *benchBounds) check(cmd *cobra.Command) error {
	switch {
	case b.duration <= 0 || b.duration > maxBenchDuration:
		return usageOf(cmd, fmt.Errorf("--duration must be more than 0 and at most %v, is %v", maxBenchDuration, b.duration))
	case b.count < 0:
		return usageOf(cmd, errors.New("--count must not be negative"))
	case b.concurrency < 1 || b.concurrency > maxBenchConcurrency:
		return usageOf(cmd, fmt.Errorf("--concurrency must be 1 to %d, is %d", maxBenchConcurrency, b.concurrency))
	}
	return nil
}

// context ends when the benchmark's time is over.
func (b *benchBounds) context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.duration, errBenchOver)
}

var errBenchOver = errors.New("the benchmark's time is over")

// latencies is a histogram that many goroutines record into. Its range is
// 1 microsecond to 1 hour with three significant figures.
type latencies struct {
	mu    sync.Mutex
	h     *hdrhistogram.Histogram
	parts []*latencies
}

// recorder returns a part for one goroutine, which then waits for no other.
func (l *latencies) recorder() *latencies {
	part := newLatencies()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = append(l.parts, part)
	return part
}

// whole returns a copy with all parts.
func (l *latencies) whole() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := hdrhistogram.Import(l.h.Export())
	for _, part := range l.parts {
		part.mu.Lock()
		all.Merge(part.h)
		part.mu.Unlock()
	}
	return all
}

func newLatencies() *latencies {
	return &latencies{h: hdrhistogram.New(1, time.Hour.Microseconds(), 3)}
}

func (l *latencies) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A value out of range cannot be recorded; clamped it still shows.
	_ = l.h.RecordValue(min(max(d.Microseconds(), 1), time.Hour.Microseconds()))
}

func (l *latencies) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.h.TotalCount()
	for _, part := range l.parts {
		part.mu.Lock()
		n += part.h.TotalCount()
		part.mu.Unlock()
	}
	return int(n)
}

// quantiles are microseconds.
type quantiles struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50_us"`
	P99   int64 `json:"p99_us"`
	P999  int64 `json:"p999_us"`
	Max   int64 `json:"max_us"`
}

func (l *latencies) quantiles() quantiles {
	h := l.whole()
	return quantiles{
		Count: int(h.TotalCount()), P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// measured is one row of a result.
type measured struct {
	name string
	*latencies
}

// benchJSON is a line of `bench --json`.
type benchJSON struct {
	What       string  `json:"what"`
	Durability string  `json:"durability"`
	PerSecond  float64 `json:"per_second"`
	quantiles
}

// printBench prints the rows of a result.
func (a *app) printBench(durability string, took time.Duration, rows []measured) error {
	t := newTable("", "COUNT", "PER SECOND", "P50", "P99", "P99.9", "MAX")
	for _, r := range rows {
		q := r.quantiles()
		perSecond := float64(q.Count) / took.Seconds()
		if a.json {
			if err := a.printJSON(benchJSON{r.name, durability, perSecond, q}); err != nil {
				return err
			}
			continue
		}
		t.row(r.name, strconv.Itoa(q.Count), strconv.FormatFloat(perSecond, 'f', 0, 64), micros(q.P50), micros(q.P99), micros(q.P999), micros(q.Max))
	}
	if a.json {
		return nil
	}
	_, err := fmt.Fprintf(a.Out, "durability: %s\n%s", durability, t)
	return err
}

// firstError keeps the first error of many goroutines and ends their work.
type firstError struct {
	once   sync.Once
	cancel context.CancelFunc
	err    error
}

func (f *firstError) set(err error) {
	f.once.Do(func() {
		f.err = err
		f.cancel()
	})
}
