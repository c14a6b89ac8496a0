package remote

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// chaosSamples is how often memory is measured while the network is bad.
	// The first sample is not compared with: tables and buffers grow to
	// their size until then.
	chaosSamples = 6
	// chaosGrowth is how many bytes the live heap of clients, daemon and
	// engine may be larger later than at the first sample, and when all is
	// closed larger than before. Moments differ by what is under way: the
	// weather has 64 KiB for each of 100 connections or some more. In ten
	// minutes, with 700,000 messages and 3,700 connections, it leaves each of
	// them 12 bytes and 2 KiB: less than an id, and less than a session.
	chaosGrowth = 8 << 20
	// chaosUnsent is how many bytes may wait in the daemon for its clients at
	// once, of 100 sessions: a message is a hundred bytes on the wire, and no
	// more than its prefetch is on the way to a client.
	chaosUnsent = 4 << 20
)

// scales measure memory beside a test.
type scales struct {
	c       *chaos
	d       *daemon
	began   time.Time
	cancel  context.CancelFunc
	done    sync.WaitGroup
	samples []sample
}

// sample of memory after a collection.
type sample struct {
	live, inUse int64 // bytes of objects, and of pages that have some, without the store's tables and the test's own records
	unsent      int64 // bytes in the daemon's outboxes
}

// weigh measures a few times within a length of time, until it is stopped.
func (c *chaos) weigh(d *daemon, length time.Duration) *scales {
	ctx, cancel := context.WithCancel(c.t.Context())
	s := &scales{c: c, d: d, began: time.Now(), cancel: cancel}
	tick := time.NewTicker(length / (chaosSamples + 1))
	s.done.Go(func() {
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.sample(fmt.Sprint("in bad weather, ", n))
			}
		}
	})
	return s
}

func (s *scales) stop() {
	s.cancel()
	s.done.Wait()
}

func (s *scales) sample(when string) {
	unsent, err := metricOf(s.d.url(), "lockkeeper_session_unsent_bytes")
	if err != nil {
		s.c.t.Errorf("metrics: %v", err)
	}
	now := collected()
	now.unsent = unsent
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	now.live, now.inUse = now.live-s.c.ledger.bytes(), now.inUse-s.c.ledger.bytes()
	s.samples = append(s.samples, now)
	s.c.t.Logf("memory after %v, %s: %d KiB of heap are live, %d KiB in use; %d bytes wait to be sent; %d goroutines; %d cycles of locks, %d messages",
		time.Since(s.began).Round(time.Second), when, now.live>>10, now.inUse>>10, now.unsent, runtime.NumGoroutine(), s.c.cycles, s.c.ledger.confirmed)
}

// collected measures the heap, without the store's tables.
func collected() sample {
	for range 2 { // pools keep things over one collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	tables := tablesOnHeap()
	return sample{live: int64(m.HeapAlloc) - tables, inUse: int64(m.HeapInuse) - tables}
}

// A table that is missed in the profile would count as growth. At this rate
// each has its record, and the blocks of the cache are estimated to a few percent.
func init() { runtime.MemProfileRate = 16 << 10 } //nolint:gochecknoinits // nothing may be allocated before

// tablesOnHeap is how many bytes of the heap are memtables and cached blocks of
// the store as of the last collection. They have bounds of their own (64 MiB
// for a memtable, which starts small and doubles), and are elsewhere as a rule: Pebble
// puts them on Go's heap under the race detector only, and then in every other
// process, by a random number.
func tablesOnHeap() (n int64) {
	records := make([]runtime.MemProfileRecord, 1<<10)
	for {
		got, ok := runtime.MemProfile(records, false)
		if ok {
			records = records[:got]
			break
		}
		records = make([]runtime.MemProfileRecord, got+got/4)
	}
	for i := range records {
		if r := &records[i]; byPebble(r) {
			// A record has the sampled allocations alone: pprof scales them so.
			size := float64(r.AllocBytes) / float64(r.AllocObjects)
			n += int64(float64(r.InUseBytes()) / (1 - math.Exp(-size/float64(runtime.MemProfileRate))))
		}
	}
	return n
}

// byPebble reports whether a record is of memory that Pebble manages by hand.
func byPebble(r *runtime.MemProfileRecord) bool {
	frames := runtime.CallersFrames(r.Stack())
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "pebble/v2/internal/manual.New") {
			return true
		}
		if !more {
			return false
		}
	}
}

// judge compares the samples after the first with it.
func (s *scales) judge() {
	for i, later := range s.samples[1:] {
		if grown := later.live - s.samples[0].live; grown > chaosGrowth {
			s.c.t.Errorf("sample %d: %d bytes of heap more than in the first, at most %d", i+2, grown, chaosGrowth)
		}
	}
	for i, at := range s.samples {
		if at.unsent > chaosUnsent {
			s.c.t.Errorf("sample %d: %d bytes wait to be sent, at most %d", i+1, at.unsent, chaosUnsent)
		}
	}
	if left := s.samples[len(s.samples)-1].unsent; left != 0 {
		s.c.t.Errorf("%d bytes wait to be sent though nothing is under way", left)
	}
}

// metricOf reads one of a daemon's metrics.
func metricOf(url, name string) (int64, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Get(url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return int64(f), err
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}
