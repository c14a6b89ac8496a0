package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// steppedWall is a wall clock that the test sets.
type steppedWall struct{ ns atomic.Int64 }

func (w *steppedWall) now() time.Time { return time.Unix(0, w.ns.Load()) }

// startAt opens an engine whose wall clock is w.
func startAt(t *testing.T, disk *storetest.Disk, w *steppedWall) (*core, *queueConn) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: "/data", FS: disk, ReserveBytes: -1, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	c, err := startCore(s, params{minTTL: 10 * time.Millisecond}, false, &Options{wall: w.now})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return c, &queueConn{&conn{core: c, gone: make(chan struct{})}}
}

// streamFacts is what a client was told of a stream.
type streamFacts struct {
	confirmed int    // messages
	saved     uint64 // offset
	saving    uint64 // offset that is being saved
	wall      int64
}

// From a crash at any write a stream has all that was confirmed, without a
// gap, an offset that was saved or was being saved, and one message for each
// tick of a schedule, wherever the clock stands.
func TestStreamCrashAnywhere(t *testing.T) {
	disk := storetest.NewDisk()
	wall := &steppedWall{}
	wall.ns.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	c, conn := startAt(t, disk, wall)
	ctx := context.Background()
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{
		{Name: "s", Type: queuedriver.Stream, Retention: queuedriver.Retention{Messages: 100}},
		{Name: "ticks", Type: queuedriver.Stream},
	}}
	if _, err := conn.Declare(ctx, top, false); err != nil {
		t.Fatal(err)
	}
	sc := &queuedriver.Schedule{Name: "minute", Cron: "* * * * *", Route: queuedriver.Route{Key: "ticks"}, Message: &queuedriver.Message{}}
	if err := conn.PutSchedule(ctx, sc); err != nil {
		t.Fatal(err)
	}

	type crash struct {
		disk  *storetest.Disk
		facts streamFacts
	}
	var mu sync.Mutex
	var facts streamFacts
	var crashes []crash
	disk.OnOp(func(storetest.Op) error {
		mu.Lock()
		f := facts
		mu.Unlock()
		f.wall = wall.ns.Load()
		n := len(crashes)
		crashes = append(crashes, crash{disk.Crash(50*(n%3), int64(n)), f})
		return nil
	})
	for n := range 40 {
		ps := make([]queuedriver.Publishing, 150)
		for i := range ps {
			ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: "s"}, Message: &queuedriver.Message{Body: fmt.Append(nil, 150*n+i+1)}}
		}
		if _, err := conn.Publish(ctx, ps); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		facts.confirmed = 150 * (n + 1)
		facts.saving = uint64(1 + (n*37)%facts.confirmed)
		saving := facts.saving
		mu.Unlock()
		if err := conn.SaveOffset(ctx, "s", "c", saving); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		facts.saved = saving
		mu.Unlock()
		wall.ns.Add(int64([]time.Duration{20 * time.Second, 5 * time.Minute, -2 * time.Minute, time.Minute}[n%4]))
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	t.Logf("%d crashes", len(crashes))
	if len(crashes) < 100 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for n, x := range crashes {
		if !checkStreamAfterCrash(t, n, x.disk, x.facts) {
			return
		}
	}
}

func checkStreamAfterCrash(t *testing.T, n int, disk *storetest.Disk, f streamFacts) bool {
	t.Helper()
	wall := &steppedWall{}
	wall.ns.Store(f.wall + int64(time.Duration(n%5-2)*time.Minute)) // it went on, or was set back
	c, conn := startAt(t, disk, wall)
	ctx := context.Background()
	if _, err := conn.Publish(ctx, []queuedriver.Publishing{{Route: queuedriver.Route{Key: "s"}, Message: &queuedriver.Message{}}}); err != nil {
		t.Fatalf("crash %d: publish: %v", n, err)
	}
	all := readAll(t, conn, "s")
	for i, m := range all[:len(all)-1] {
		if i > 0 && m.Offset != all[i-1].Offset+1 || string(m.Message.Body) != fmt.Sprint(m.Offset) {
			t.Errorf("crash %d: offset %d holds %q", n, m.Offset, m.Message.Body)
		}
	}
	if last := all[len(all)-1].Offset; last <= uint64(f.confirmed) || len(all) < min(100, f.confirmed) {
		t.Errorf("crash %d: %d messages up to %d, %d were confirmed", n, len(all), last, f.confirmed)
	}
	if offsets, err := conn.Offsets(ctx, "s", ""); err != nil || f.saved != 0 && len(offsets) != 1 ||
		len(offsets) == 1 && offsets[0].Offset != f.saved && offsets[0].Offset != f.saving {
		t.Errorf("crash %d: offsets %v, saved %d, saving %d: %v", n, offsets, f.saved, f.saving, err)
	}
	seen := make(map[string]bool)
	for i, m := range readAll(t, conn, "ticks") {
		tick := fmt.Sprint(m.Message.Headers[queuedriver.HeaderTick])
		want := time.Date(2026, 1, 1, 0, 1+i, 0, 0, time.UTC).Format(queuedriver.TickLayout)
		if seen[tick] || tick != want {
			t.Errorf("crash %d: tick %d is %s, want %s", n, i, tick, want)
		}
		seen[tick] = true
	}
	if err := c.close(); err != nil {
		t.Errorf("crash %d: close: %v", n, err)
	}
	return !t.Failed()
}

func readAll(t *testing.T, conn *queueConn, q string) (all []queuedriver.StreamMessage) {
	t.Helper()
	r := &queuedriver.StreamRequest{Queue: q, From: queuedriver.FromFirst, Max: queuedriver.MaxReceive}
	for {
		b, err := conn.ReadStream(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Messages) == 0 {
			return all
		}
		all = append(all, b.Messages...)
		r.From, r.Offset = queuedriver.FromOffset, b.Next
	}
}
