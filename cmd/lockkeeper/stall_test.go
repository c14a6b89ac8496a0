package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
)

const (
	stallRounds = 5
	stallNames  = 20 // in a round
)

// TestTruthfulLoss stops the daemon for longer than the TTL of what is held.
// Each holder's context must end before the name is granted to the one who
// waits for it: 100 of 100.
func TestTruthfulLoss(t *testing.T) {
	var truthful atomic.Int64
	t.Run("rounds", func(t *testing.T) {
		for round := range stallRounds {
			t.Run(fmt.Sprint(round), func(t *testing.T) {
				t.Parallel()
				ttl := 500*time.Millisecond + time.Duration(round)*100*time.Millisecond
				truthful.Add(int64(stall(t, ttl, 2*ttl+time.Duration(round)*200*time.Millisecond)))
			})
		}
	})
	if n := truthful.Load(); n != stallRounds*stallNames {
		t.Errorf("the loss was known in time in %d of %d", n, stallRounds*stallNames)
	}
}

// stall returns how many holders knew in time.
func stall(t *testing.T, ttl, stop time.Duration) int {
	t.Helper()
	d := startDaemon(t)
	holders, _ := clients(t, d.url)
	rivals, _ := clients(t, d.url)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := make([]*lock.Lease, stallNames)
	ended := make([]time.Time, stallNames)
	granted := make([]time.Time, stallNames)
	var all sync.WaitGroup
	for i := range held {
		name := fmt.Sprint("name-", i)
		var err error
		if held[i], err = holders.Acquire(ctx, name, &lock.Options{TTL: ttl}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			<-held[i].Context().Done()
			ended[i] = time.Now()
		})
		all.Go(func() {
			rival, err := rivals.Acquire(ctx, name, &lock.Options{TTL: ttl})
			granted[i] = time.Now()
			switch {
			case err != nil:
				t.Errorf("%s: the rival: %v", name, err)
			case rival.Token() <= held[i].Token():
				t.Errorf("%s: the rival's token %v is not above %v", name, rival.Token(), held[i].Token())
			}
		})
	}
	eventually(t, "the rivals wait", func() bool {
		n := 0
		for info, err := range holders.List(ctx, "") {
			if err != nil {
				t.Fatal(err)
			}
			n += info.Waiting
		}
		return n == stallNames
	})
	d.p.signal(syscall.SIGSTOP)
	time.Sleep(stop) //nolint:forbidigo // the stall itself
	d.p.signal(syscall.SIGCONT)
	all.Wait()

	n := 0
	smallest := time.Hour
	for i := range held {
		gap := granted[i].Sub(ended[i])
		smallest = min(smallest, gap)
		if gap > 0 && errors.Is(context.Cause(held[i].Context()), lock.ErrExpired) && held[i].Check() != nil {
			n++
		} else {
			t.Errorf("name-%d: granted %v after the holder's context ended, because %v", i, gap, context.Cause(held[i].Context()))
		}
	}
	t.Logf("ttl %v, stopped for %v: smallest gap between the end of a holder and the next grant %v", ttl, stop, smallest)
	return n
}
