package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/lock"
)

// benchLocks is one `lockkeeper bench locks`.
type benchLocks struct {
	*app
	benchBounds
	names int
	hold  time.Duration
	ttl   time.Duration

	acquire, release, cycle *latencies
}

func (a *app) benchLocksCommand() *cobra.Command {
	b := &benchLocks{app: a, acquire: newLatencies(), release: newLatencies(), cycle: newLatencies()}
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "Measure cycles of acquire and release",
		Long: `Measure cycles of acquire and release. Without --names each worker has a name
of its own and nobody waits; with fewer names than workers they contend, and
acquire includes the wait in line.`,
		Example: `  lockkeeper bench locks
  lockkeeper bench locks --concurrency 1                         # latency of a lone client
  lockkeeper bench locks --concurrency 20 --names 1 --hold 1ms   # contention`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.check(cmd); err != nil {
				return err
			}
			if b.names < 0 || b.names > maxBenchNames || b.hold < 0 {
				return usageOf(cmd, fmt.Errorf("--names must be 0 to %d and --hold not negative", maxBenchNames))
			}
			return b.run(cmd.Context())
		},
	}
	b.flags(cmd, 64, "how many workers")
	cmd.Flags().IntVar(&b.names, "names", 0, "how many names they share; 0: one each")
	cmd.Flags().DurationVar(&b.hold, "hold", 0, "how long each lock is held")
	cmd.Flags().DurationVar(&b.ttl, "ttl", lock.DefaultTTL, "TTL of the locks")
	return cmd
}

func (b *benchLocks) run(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	locks, err := lock.Open(ctx, b.url) // mem:// makes sense here
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	durability := "memory: grants are forgotten at a restart"
	if locks.Caps().Durable {
		durability = "durable: grants and releases survive a restart of the backend"
	}
	names := b.names
	if names == 0 {
		names = b.concurrency
	}
	prefix := "bench/" + rand.Text() + "/"
	timed, cancel := b.context(ctx)
	defer cancel()
	first := &firstError{cancel: cancel}
	var budget atomic.Int64
	budget.Store(int64(b.count))
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var workers sync.WaitGroup
		for w := range b.concurrency {
			workers.Go(func() {
				for i := w; timed.Err() == nil; i += b.concurrency {
					if b.count > 0 && budget.Add(-1) < 0 {
						return
					}
					if err := b.once(timed, locks, prefix+strconv.Itoa(i%names)); err != nil {
						if timed.Err() == nil {
							first.set(err)
						}
						return
					}
				}
			})
		}
		workers.Wait()
	}()
	rows := []measured{{"acquire", b.acquire}, {"release", b.release}, {"cycle", b.cycle}}
	b.follow(done, &benchProgress{benchBounds: &b.benchBounds, title: "bench locks", began: began, rows: rows})
	took := time.Since(began)
	if first.err != nil {
		return first.err
	}
	if err := b.printBench(durability, took, rows); err != nil {
		return err
	}
	return b.cutShort(ctx)
}

// once is one cycle. What it acquired it releases also after the time is over.
func (b *benchLocks) once(ctx context.Context, locks *lock.Locker, name string) error {
	began := time.Now()
	held, err := locks.Acquire(ctx, name, &lock.Options{TTL: b.ttl})
	if err != nil {
		return err
	}
	acquired := time.Now()
	if b.hold > 0 {
		select {
		case <-time.After(b.hold):
		case <-ctx.Done():
		}
	}
	releasing := time.Now()
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), benchCleanup)
	defer cancel()
	if err := held.Release(clean); err != nil {
		return err
	}
	b.acquire.record(acquired.Sub(began))
	b.release.record(time.Since(releasing))
	b.cycle.record(time.Since(began))
	return nil
}
