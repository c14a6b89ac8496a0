package engine

import (
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

const leastTTL = 50 * time.Millisecond // for tests that wait until a lease expires

func TestLocksInMemory(t *testing.T) {
	t.Parallel() // it waits for most of its time
	e := open(t, "mem://", &Options{MinTTL: leastTTL})
	locktest.Run(t, locktest.Harness{
		Open: func(testing.TB) lockdriver.Conn { return e.Locks() },
	})
}

func TestLocksInFiles(t *testing.T) {
	t.Parallel() // it waits for most of its time
	url := "file://" + t.TempDir()
	e := open(t, url, &Options{MinTTL: leastTTL})
	locktest.Run(t, locktest.Harness{
		Open: func(testing.TB) lockdriver.Conn { return e.Locks() },
		Restart: func(testing.TB) {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			e = open(t, url, &Options{MinTTL: leastTTL})
		},
	})
}

// TestLocksOverCrashes has the power fail at each restart: only what was
// synced is left.
func TestLocksOverCrashes(t *testing.T) {
	t.Parallel() // it waits for most of its time
	var mu sync.Mutex
	disk := storetest.NewDisk()
	start := func() *Engine {
		s, err := store.Open(store.Options{Dir: "/data", FS: disk, ReserveBytes: -1})
		if err != nil {
			t.Fatal(err)
		}
		core, err := startCore(s, params{minTTL: leastTTL}, false, &Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := &Engine{target: new(target), core: core, conns: make(map[*conn]struct{})}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		return e
	}
	e := start()
	crashes := int64(0)
	locktest.Run(t, locktest.Harness{
		Open: func(testing.TB) lockdriver.Conn {
			mu.Lock()
			defer mu.Unlock()
			return e.Locks()
		},
		Restart: func(testing.TB) {
			mu.Lock()
			defer mu.Unlock()
			crashes++
			disk = disk.Crash(0, crashes)
			old := e
			e = start()
			if err := old.Close(); err != nil { // its disk is not looked at again
				t.Error(err)
			}
		},
	})
}
