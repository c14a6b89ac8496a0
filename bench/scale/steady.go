package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// steadyGrowth bounds how much more of the last third of a run may be than of
// the first, and how much less the rate.
const steadyGrowth = 1.5

const (
	poisoned = "poisoned" // the order key that never succeeds
	seeks    = 5          // messages of the head that are looked at for a sample
)

// sample is what one moment of a steady run looks like.
type sample struct {
	At         float64 // seconds since the begin
	Rate       float64 // messages acked a second
	Receive50  float64 // ms, of a receive that finds messages
	Receive99  float64
	Seek       float64 // ms, to find the head of the queue on disk
	Disk       float64 // MiB
	RSS        float64 // MiB
	Heap       float64 // MiB that live
	Goroutines float64
}

// columns of a sample, by name. flat: the last third of a run is to be as the
// first.
var columns = []struct {
	name, unit string
	flat       bool
	of         func(s *sample) *float64
}{
	{"at", "s", false, func(s *sample) *float64 { return &s.At }},
	{"rate", "messages/s", true, func(s *sample) *float64 { return &s.Rate }},
	{"receive_p50", "ms", true, func(s *sample) *float64 { return &s.Receive50 }},
	{"receive_p99", "ms", true, func(s *sample) *float64 { return &s.Receive99 }},
	{"seek", "ms", true, func(s *sample) *float64 { return &s.Seek }},
	{"disk", "MiB", true, func(s *sample) *float64 { return &s.Disk }},
	{"rss", "MiB", true, func(s *sample) *float64 { return &s.RSS }},
	{"heap", "MiB", true, func(s *sample) *float64 { return &s.Heap }},
	{"goroutines", "", true, func(s *sample) *float64 { return &s.Goroutines }},
}

// steady runs a queue a few messages deep at full rate, with one key whose
// message always fails, and checks that nothing grows.
func steady(ctx context.Context, c *config) error {
	p, err := start(ctx, "steady", c)
	if err != nil {
		return err
	}
	var all []sample
	for {
		var s sample
		if err := p.next(&s); err != nil {
			return err
		}
		if s.At < 0 {
			break // the end
		}
		all = append(all, s)
	}
	u, err := p.end()
	if err != nil {
		return err
	}
	var first firstReceive
	if first, _, err = only[firstReceive](ctx, "backlog-first", c); err != nil {
		return err
	}
	fmt.Printf("steady: %d samples in %v, a queue of %d and a poisoned key; peak RSS %s; reopened in %v, first receive %v\n", len(all), c.For, c.Depth, mib(u.RSS), first.Open, first.Receive)
	if err := writeCSV(c.CSV, all); err != nil {
		return err
	}
	if c.SVG != "" {
		if err := os.WriteFile(c.SVG, plot(all), 0o600); err != nil {
			return err
		}
	}
	return judge(all)
}

// warmUp is how long caches and memtables take to fill: it is not judged, nor
// is a run of less than three times as long.
const warmUp = time.Minute

// judge compares the last third of a run with the first.
func judge(all []sample) error {
	warm := slices.IndexFunc(all, func(s sample) bool { return s.At > warmUp.Seconds() })
	if warm < 0 || all[len(all)-1].At < 3*warmUp.Seconds() {
		fmt.Println("  too short to be judged")
		return nil
	}
	all = all[warm:]
	third := len(all) / 3
	var bad error
	for _, col := range columns {
		if !col.flat {
			continue
		}
		before, after := medianOf(all[:third], col.of), medianOf(all[len(all)-third:], col.of)
		fmt.Printf("  %-12s %10.3f %10.3f %s\n", col.name, before, after, col.unit)
		if col.name == "rate" {
			before, after = after, before
		}
		if after > before*steadyGrowth {
			bad = errors.Join(bad, fmt.Errorf("%s is not flat", col.name))
		}
	}
	return bad
}

func medianOf(all []sample, of func(s *sample) *float64) float64 {
	xs := make([]float64, len(all))
	for i := range all {
		xs[i] = *of(&all[i])
	}
	return median(xs)
}

func writeCSV(path string, all []sample) (err error) {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := csv.NewWriter(f)
	row := make([]string, len(columns))
	for i, col := range columns {
		row[i] = col.name
	}
	rows := [][]string{row}
	for i := range all {
		row := make([]string, len(columns))
		for j, col := range columns {
			row[j] = strconv.FormatFloat(*col.of(&all[i]), 'f', 3, 64)
		}
		rows = append(rows, row)
	}
	return w.WriteAll(rows)
}

// meter counts what a steady run does between two samples.
type meter struct {
	mu       sync.Mutex
	acked    int
	receives []time.Duration
}

func (m *meter) add(acked int, receive time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked += acked
	if len(m.receives) < 1<<20 {
		m.receives = append(m.receives, receive)
	}
}

func (m *meter) take() (int, []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, rs := m.acked, slices.Clone(m.receives)
	m.acked, m.receives = 0, m.receives[:0]
	return n, rs
}

func steadyRole(ctx context.Context, c *config, report func(any) error) error {
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return err
	}
	q := queuedriver.Queue{Name: "big", Backoff: queuedriver.Backoff{Min: 10 * time.Millisecond, Max: time.Second}}
	if err := declare(ctx, s.q, q); err != nil {
		return err
	}
	// One of the key fails again and again, a few more wait for their turn.
	for range seeks {
		m := &queuedriver.Message{OrderKey: poisoned, Body: noise[:bodySize]}
		if err := publish(ctx, s.q, []queuedriver.Publishing{{Route: queuedriver.Route{Key: "big"}, Mandatory: true, Message: m}}); err != nil {
			return err
		}
	}
	m := &meter{}
	working, stop := context.WithTimeout(ctx, c.For)
	defer stop()
	room := make(chan struct{}, c.Depth)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return steadyPublish(gctx, working, s.q, room) })
	for i := range consumers {
		g.Go(func() error { return steadyConsume(gctx, working, s.q, strconv.Itoa(i), room, m) })
	}
	g.Go(func() error { return steadySample(gctx, working, c, s.q, m, report) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := report(sample{At: -1}); err != nil {
		return err
	}
	untilEnd(ctx)
	// One is ready for the first receive after the next open, which would wait
	// for the backoff of the poisoned key if there were no other.
	if err := publish(ctx, s.q, []queuedriver.Publishing{{Route: queuedriver.Route{Key: "big"}, Mandatory: true, Message: plain(0)}}); err != nil {
		return err
	}
	return s.Close()
}

// steadyPublish keeps the queue as full as room is large.
func steadyPublish(ctx, working context.Context, q queuedriver.Conn, room chan struct{}) error {
	for i := 0; ; {
		select {
		case room <- struct{}{}:
		case <-working.Done():
			return ctx.Err()
		}
		n := 1
		for more := true; more; {
			select {
			case room <- struct{}{}:
				n++
			default:
				more = false
			}
		}
		ps := make([]queuedriver.Publishing, n)
		for j := range ps {
			m := plain(i)
			m.OrderKey = "key-" + strconv.Itoa(i%1000)
			ps[j] = queuedriver.Publishing{Route: queuedriver.Route{Key: "big"}, Mandatory: true, Message: m}
			i++
		}
		if err := publish(ctx, q, ps); err != nil {
			return err
		}
	}
}

func steadyConsume(ctx, working context.Context, q queuedriver.Conn, consumer string, room chan struct{}, m *meter) error {
	for working.Err() == nil {
		began := time.Now()
		ds, err := q.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "big", Consumer: consumer, Max: cap(room), Wait: 100 * time.Millisecond})
		if err != nil {
			return err
		}
		took, acked := time.Since(began), 0
		ss := make([]queuedriver.Settlement, len(ds))
		for i := range ds {
			ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Ack}
			if ds[i].Message.OrderKey == poisoned {
				ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Nack, Backoff: true, Reason: "it always fails"}
				continue
			}
			acked++
		}
		if len(ss) == 0 {
			continue
		}
		if err := settle(ctx, q, ss); err != nil {
			return err
		}
		m.add(acked, took)
		for range acked {
			<-room
		}
	}
	return nil
}

// steadySample reports a sample after each c.Every.
func steadySample(ctx, working context.Context, c *config, q queuedriver.Conn, m *meter, report func(any) error) error {
	began := time.Now()
	last := began
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-working.Done():
			return ctx.Err()
		}
		acked, receives := m.take()
		now := time.Now()
		s := sample{At: now.Sub(began).Seconds(), Rate: rate(acked, now.Sub(last)), Goroutines: float64(runtime.NumGoroutine())}
		last = now
		slices.Sort(receives)
		s.Receive50, s.Receive99 = percentile(receives, 50), percentile(receives, 99)
		// From the head on: over all that is deleted.
		if _, err := q.Peek(ctx, &queuedriver.PeekRequest{Queue: "big", Max: 2 * seeks}); err != nil {
			return err
		}
		s.Seek = ms(time.Since(now))
		disk, err1 := diskOf(c.Dir)
		rss, err2 := rssOf(os.Getpid())
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		s.Disk, s.RSS, s.Heap = float64(disk)/(1<<20), float64(rss)/(1<<20), float64(mem.HeapAlloc)/(1<<20)
		if err := report(s); err != nil {
			return err
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile of sorted times, in ms.
func percentile(ds []time.Duration, p int) float64 {
	if len(ds) == 0 {
		return 0
	}
	return ms(ds[min(len(ds)*p/100, len(ds)-1)])
}
