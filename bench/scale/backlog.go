package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	backlogParts = 20     // in which rates are measured
	shortLength  = 4000   // messages of a short queue
	shortRounds  = 25     // how often it is filled and drained for one rate
	heldMessages = 40_000 // by each consumer, before it acks them
	killAfter    = 2 * time.Second
	spaceFor     = time.Minute // how long the disk is watched after a drain
	fewIsUnder   = 1_000_000   // messages: where the two above are not waited for
)

// backlog measures a queue with many messages: publish, reopen, drain.
func backlog(ctx context.Context, c *config) error {
	fmt.Printf("backlog: %d messages of %d bytes\n", c.N, bodySize)
	for _, acks := range []string{"plain", "held"} {
		c.Acks = acks
		if err := backlogOnce(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func backlogOnce(ctx context.Context, c *config) error {
	filled, u, err := only[filled](ctx, "backlog-fill", c)
	if err != nil {
		return err
	}
	full, err := diskOf(c.Dir)
	if err != nil {
		return err
	}
	fmt.Printf("publish: %s; peak RSS %s; %.2f us of CPU a message; disk %s; close %v\n",
		spread(filled.Rates), mib(u.RSS), u.CPU.Seconds()*1e6/float64(c.N), mib(full), filled.Close.Round(time.Millisecond))

	first, u, err := only[firstReceive](ctx, "backlog-first", c)
	if err != nil {
		return err
	}
	fmt.Printf("after a close: open %v, first receive %v; peak RSS %s\n", first.Open, first.Receive, mib(u.RSS))
	if err := killOnce(ctx, c); err != nil {
		return err
	}
	return drainOnce(ctx, c, full)
}

// killOnce kills the engine with SIGKILL while it publishes.
func killOnce(ctx context.Context, c *config) error {
	kill := *c
	kill.Kill = true
	p, err := start(ctx, "backlog-first", &kill)
	if err != nil {
		return err
	}
	var first firstReceive
	if err := p.next(&first); err != nil {
		return err
	}
	after := killAfter
	if c.N < fewIsUnder {
		after = 0
	}
	pause(ctx, after)
	return p.kill()
}

func drainOnce(ctx context.Context, c *config, full int64) error {
	p, err := start(ctx, "backlog-drain", c)
	if err != nil {
		return err
	}
	var d drained
	if err := p.next(&d); err != nil {
		return err
	}
	fmt.Printf("after kill -9: open %v, first receive %v\n", d.Open, d.Receive)
	fmt.Printf("drained %d\n", d.Count)
	if c.Acks == "plain" {
		fmt.Printf("drain: %s; from a short queue: %s; ratio of the medians %.2f\n", spread(d.Drain), spread(d.Other), median(d.Drain)/median(d.Other))
	} else {
		fmt.Printf("with %d messages held, acked in order: %s; in random order: %s; it costs %.2f times\n", heldMessages*consumers, spread(d.Drain), spread(d.Other), median(d.Drain)/median(d.Other))
	}
	if d.Count < c.N {
		return fmt.Errorf("drained %d messages of %d", d.Count, c.N)
	}
	if err := watchSpace(ctx, c, full); err != nil {
		return err
	}
	u, err := p.end()
	if err != nil {
		return err
	}
	left, err := diskOf(c.Dir)
	if err != nil {
		return err
	}
	fmt.Printf("drained: peak RSS %s; disk after close %s\n", mib(u.RSS), mib(left))
	return nil
}

// watchSpace prints how the disk space comes back.
func watchSpace(ctx context.Context, c *config, full int64) error {
	began := time.Now()
	fmt.Printf("disk: %s full", mib(full))
	for _, at := range []time.Duration{0, time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, spaceFor} {
		if at > 0 && c.N < fewIsUnder {
			break
		}
		pause(ctx, time.Until(began.Add(at)))
		left, err := diskOf(c.Dir)
		if err != nil {
			return err
		}
		fmt.Printf(", %s after %v", mib(left), at)
	}
	fmt.Println()
	return nil
}

// filled is what publishing found.
type filled struct {
	Rates []float64 // of each part
	Close time.Duration
}

func backlogFill(ctx context.Context, c *config, report func(any) error) error {
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return err
	}
	if err := declare(ctx, s.q, queuedriver.Queue{Name: "big"}, queuedriver.Queue{Name: "short"}); err != nil {
		return err
	}
	var f filled
	var mu sync.Mutex
	last := time.Now()
	err = fill(ctx, s.q, "big", c.N, backlogParts, plain, func() {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		f.Rates = append(f.Rates, rate(c.N/backlogParts, now.Sub(last)))
		last = now
	})
	if err != nil {
		return err
	}
	last = time.Now()
	if err := s.Close(); err != nil {
		return err
	}
	f.Close = time.Since(last)
	return report(f)
}

// firstReceive is how long it takes from an open to a message.
type firstReceive struct{ Open, Receive time.Duration }

func openFirst(ctx context.Context, c *config) (*store, *firstReceive, error) {
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return nil, nil, err
	}
	began := time.Now()
	ds, err := s.q.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "big", Consumer: "first", Max: 1, Wait: time.Minute})
	if err != nil {
		return nil, nil, err
	}
	if len(ds) == 0 {
		return nil, nil, errors.New("the first receive found nothing")
	}
	f := &firstReceive{Open: s.opened, Receive: time.Since(began)}
	_, err = s.q.Settle(ctx, []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Release}})
	return s, f, err
}

func backlogFirst(ctx context.Context, c *config, report func(any) error) error {
	s, f, err := openFirst(ctx, c)
	if err != nil {
		return err
	}
	if c.Kill {
		if err := report(f); err != nil {
			return err
		}
		return fill(ctx, s.q, "big", math.MaxInt32, 1, plain, nil)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return report(f)
}

// drained is what draining found.
type drained struct {
	firstReceive
	Count int
	Drain []float64 // rates of the parts of the backlog
	Other []float64 // of a short queue, or of acks in random order
}

func backlogDrain(ctx context.Context, c *config, report func(any) error) error {
	s, first, err := openFirst(ctx, c)
	if err != nil {
		return err
	}
	d := drained{firstReceive: *first}
	for more := true; more; {
		more, err = d.part(ctx, c, s)
		if err != nil {
			return err
		}
	}
	if err := report(d); err != nil {
		return err
	}
	untilEnd(ctx)
	return s.Close()
}

// part drains a part of the backlog, and what it is compared with, and
// reports whether there is more.
func (d *drained) part(ctx context.Context, c *config, s *store) (bool, error) {
	n, held := c.N/backlogParts, 0
	if c.Acks == "held" {
		n, held = n/2, heldMessages
	}
	one := func(random bool, rates *[]float64) (bool, error) {
		began := time.Now()
		got, err := drain(ctx, s.q, "big", n, held, random)
		if err != nil {
			return false, err
		}
		d.Count += got
		if got >= n {
			*rates = append(*rates, rate(got, time.Since(began)))
		}
		return got >= n, nil
	}
	more, err := one(false, &d.Drain)
	if err != nil || !more {
		return false, err
	}
	if c.Acks == "held" {
		return one(true, &d.Other)
	}
	r, err := short(ctx, s.q)
	d.Other = append(d.Other, r)
	return true, err
}

// short is the rate at which a short queue is drained.
func short(ctx context.Context, q queuedriver.Conn) (float64, error) {
	var took time.Duration
	for range shortRounds {
		if err := fill(ctx, q, "short", shortLength, 1, plain, nil); err != nil {
			return 0, err
		}
		began := time.Now()
		n, err := drain(ctx, q, "short", shortLength, 0, false)
		if err != nil {
			return 0, err
		}
		if n != shortLength {
			return 0, fmt.Errorf("drained %d messages of %d", n, shortLength)
		}
		took += time.Since(began)
	}
	return rate(shortLength*shortRounds, took), nil
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}

// spread says how rates of parts in a row are.
func spread(xs []float64) string {
	if len(xs) == 0 {
		return "nothing"
	}
	third := max(1, len(xs)/3)
	return fmt.Sprintf("%.0f/s (%.0f to %.0f; last third/first third %.2f)", median(xs), slices.Min(xs), slices.Max(xs), median(xs[len(xs)-third:])/median(xs[:third]))
}
