package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	fewMessages = 10_000 // what many are compared with
	manyParts   = 10
)

// costs are what a number of messages took.
type costs struct {
	N        int
	Rates    []float64     // of publishing, by parts
	CPU      time.Duration // of publishing
	Heap     int64         // bytes more than before, after a collection
	Disk     int64         // bytes more than before
	Open     time.Duration // how long it takes to open the store again
	Again    float64       // rate of publishing the same once more
	Due      float64       // rate at which they come due and are drained
	Released time.Duration // from the moment they were due to the first
}

func (c *costs) print(what string, rss int64) {
	fmt.Printf("%d %s: publish %s, %.2f us of CPU a message; heap %+.1f MiB (%.1f bytes each); disk %s; open %v; peak RSS %s",
		c.N, what, spread(c.Rates), c.CPU.Seconds()*1e6/float64(c.N), float64(c.Heap)/(1<<20), float64(c.Heap)/float64(c.N), mib(c.Disk), c.Open.Round(time.Millisecond), mib(rss))
}

// publishCosts publishes n messages to queue q of a new store and says what it
// took. The store is open afterwards, anew.
func publishCosts(ctx context.Context, c *config, n int, queue *queuedriver.Queue, message func(i int) *queuedriver.Message) (*store, *costs, error) {
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return nil, nil, err
	}
	if err := declare(ctx, s.q, *queue); err != nil {
		return nil, nil, err
	}
	k := &costs{N: n}
	heap, cpu := heapNow(), cpuNow()
	disk, err := diskOf(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	last := time.Now()
	var mu sync.Mutex
	err = fill(ctx, s.q, queue.Name, n, manyParts, message, func() {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		k.Rates = append(k.Rates, rate(n/manyParts, now.Sub(last)))
		last = now
	})
	if err != nil {
		return nil, nil, err
	}
	k.CPU = cpuNow() - cpu
	k.Heap = heapNow() - heap
	full, err := diskOf(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	k.Disk = full - disk
	if err := s.Close(); err != nil {
		return nil, nil, err
	}
	s, err = openStore(ctx, c.Dir)
	if err != nil {
		return nil, nil, err
	}
	k.Open = s.opened
	return s, k, nil
}

// heapNow is the memory that lives.
func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// cpuNow is the processor time that this process has used, to the microsecond:
// few messages take less than a tick of /proc.
func cpuNow() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// fewAndMany runs a role for few messages and for many.
func fewAndMany(ctx context.Context, c *config, role, what string, more func(k *costs)) error {
	for _, n := range []int{min(fewMessages, c.N), c.N} {
		one := *c
		one.N = n
		err := inScratch(&one, func() error {
			k, u, err := only[costs](ctx, role, &one)
			if err != nil {
				return err
			}
			k.print(what, u.RSS)
			more(&k)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// delayed measures scheduled messages: to store them, and that they come due.
func delayed(ctx context.Context, c *config) error {
	return fewAndMany(ctx, c, "delayed", "scheduled messages", func(k *costs) {
		fmt.Printf("; due and drained at %.0f/s, the first after %v\n", k.Due, k.Released.Round(time.Millisecond))
	})
}

// storedAtLeast is a rate that publishing scheduled messages always has: they
// are due when all are stored.
const storedAtLeast = 20_000

func delayedRole(ctx context.Context, c *config, report func(any) error) error {
	due := time.Now().Add(3*time.Second + time.Duration(c.N)*time.Second/storedAtLeast)
	s, k, err := publishCosts(ctx, c, c.N, &queuedriver.Queue{Name: "delayed"}, func(i int) *queuedriver.Message {
		m := plain(i)
		m.NotBefore = due
		if c.Spread > 0 {
			m.NotBefore = due.Add(-rand.N(c.Spread))
		}
		return m
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(due)):
	case <-ctx.Done():
	}
	ds, err := s.q.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "delayed", Consumer: "first", Max: 1, Wait: time.Minute})
	if err != nil {
		return err
	}
	if len(ds) == 0 {
		return errors.New("nothing came due")
	}
	k.Released = time.Since(due)
	if err := settle(ctx, s.q, []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Ack}}); err != nil {
		return err
	}
	for got := 1; got < c.N; {
		n, err := drain(ctx, s.q, "delayed", c.N-got, 0, false)
		if err != nil {
			return err
		}
		got += n
	}
	k.Due = rate(c.N, time.Since(due))
	st, err := s.q.Stats(ctx, &queuedriver.StatsRequest{Max: 1})
	if err != nil {
		return err
	}
	if len(st) != 1 || st[0].Ready != 0 || st[0].Delayed != 0 || st[0].Acked != int64(c.N) {
		return fmt.Errorf("after draining %d scheduled messages: %+v", c.N, st)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return report(k)
}

// dedup measures how it is to have seen many ids.
func dedup(ctx context.Context, c *config) error {
	return fewAndMany(ctx, c, "dedup", "ids to be remembered", func(k *costs) {
		fmt.Printf("; publishing duplicates at %.0f/s\n", k.Again)
	})
}

func dedupRole(ctx context.Context, c *config, report func(any) error) error {
	message := func(i int) *queuedriver.Message {
		return &queuedriver.Message{ID: "order-" + strconv.Itoa(i), Body: []byte("x")}
	}
	s, k, err := publishCosts(ctx, c, c.N, &queuedriver.Queue{Name: "dedup", DedupWindow: 24 * time.Hour}, message)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := fill(ctx, s.q, "dedup", c.N, 1, message, nil); err != nil {
		return err
	}
	k.Again = rate(c.N, time.Since(began))
	st, err := s.q.Stats(ctx, &queuedriver.StatsRequest{Max: 1})
	if err != nil {
		return err
	}
	if len(st) != 1 || st[0].Ready != int64(c.N) || st[0].Duplicates != int64(c.N) {
		return fmt.Errorf("after publishing %d messages twice: %+v", c.N, st)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return report(k)
}
