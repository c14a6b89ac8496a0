package engine

import (
	"context"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/internal/suitelocks"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

// suiteLease is long enough for a machine that is busy with other tests: with
// half of it one lease in thousands ran out in a stall.
const suiteLease = time.Second

func TestQueueConformanceMemory(t *testing.T) {
	t.Parallel() // it waits for most of its time
	e := openEngine(t, "mem://?min_ttl=10ms")
	queuetest.Run(t, queuetest.Harness{
		Lease: suiteLease,
		Open:  func(*testing.T) queuedriver.Conn { return e.Queues() },
		Locks: func(*testing.T) queuetest.Locks { return suitelocks.Locks{Conn: e.Locks()} },
	})
}

// TestQueueConformanceFile restarts by closing and opening.
func TestQueueConformanceFile(t *testing.T) {
	t.Parallel() // it waits for most of its time
	url := "file://" + t.TempDir() + "/data?min_ttl=10ms"
	e := openEngine(t, url)
	queuetest.Run(t, queuetest.Harness{
		Lease: suiteLease,
		Open:  func(*testing.T) queuedriver.Conn { return e.Queues() },
		Locks: func(*testing.T) queuetest.Locks { return suitelocks.Locks{Conn: e.Locks()} },
		Restart: func(*testing.T) {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openEngine(t, url)
		},
	})
}

// TestQueueConformanceCrash restarts by a power loss: what was not synced is
// gone.
func TestQueueConformanceCrash(t *testing.T) {
	t.Parallel() // it waits for most of its time
	disk := storetest.NewDisk()
	c, _ := startOn(t, disk)
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	queuetest.Run(t, queuetest.Harness{
		Lease: suiteLease,
		Open: func(*testing.T) queuedriver.Conn {
			e := &Engine{core: c, conns: make(map[*conn]struct{})}
			return e.Queues()
		},
		Locks: func(*testing.T) queuetest.Locks {
			e := &Engine{core: c, conns: make(map[*conn]struct{})}
			return suitelocks.Locks{Conn: e.Locks()}
		},
		Restart: func(*testing.T) {
			after := disk.Crash(0, 1)
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			disk = after
			c, _ = startOn(t, disk)
		},
	})
}

func openEngine(t *testing.T, url string) *Engine {
	t.Helper()
	e, err := Open(context.Background(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
