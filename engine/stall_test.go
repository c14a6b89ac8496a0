package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// tablesFull has every write of a table fail for want of space while the log
// still has some, until it is told otherwise.
func tablesFull(disk *storetest.Disk) *atomic.Bool {
	full := new(atomic.Bool)
	disk.OnOp(func(op storetest.Op) error {
		if full.Load() && op.Kind == storetest.Write && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	})
	return full
}

// TestStalledStore has the disk take no more tables: calls are refused with
// the reason instead of hanging, and it works again when there is room, with
// everything that was confirmed.
func TestStalledStore(t *testing.T) {
	disk := storetest.NewDisk()
	c, conn := startOn(t, disk)
	if _, err := conn.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	locks := lockConnOn(c)
	held := acquire(t, locks, "held", "h")
	full := tablesFull(disk)
	full.Store(true)
	confirmed := 0
	publish := func() error {
		rs, err := conn.Publish(t.Context(), []queuedriver.Publishing{{
			Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{ID: fmt.Sprint(confirmed), Body: make([]byte, 10<<10)},
		}})
		if err == nil {
			err = rs[0].Err
		}
		if err == nil {
			confirmed++
		}
		return err
	}
	var err error
	for err = publish(); err == nil; err = publish() {
		if confirmed > 1000 {
			t.Fatal("the store takes everything")
		}
	}
	if !errors.Is(err, lease.ErrNoSpace) {
		t.Fatalf("publish: %v", err)
	}
	if _, _, err := locks.Acquire(t.Context(), request("other", "h")); !errors.Is(err, lease.ErrNoSpace) {
		t.Errorf("acquire: %v", err)
	}
	full.Store(false)
	for deadline := time.Now().Add(30 * time.Second); ; {
		if err = publish(); err == nil {
			break
		}
		if !errors.Is(err, lease.ErrNoSpace) || time.Now().After(deadline) {
			t.Fatalf("publish, with room again: %v", err)
		}
	}
	release(t, locks, "held", "h", held.Token)
	stats, err := conn.Stats(t.Context(), &queuedriver.StatsRequest{Queue: "q"})
	if err != nil || stats[0].Ready != int64(confirmed) {
		t.Errorf("%d messages are there, %d were confirmed: %v", stats[0].Ready, confirmed, err)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileStalled does not wait for the disk.
func TestCloseWhileStalled(t *testing.T) {
	disk := storetest.NewDisk()
	c, conn := startOn(t, disk)
	if _, err := conn.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	tablesFull(disk).Store(true)
	for {
		_, err := conn.Publish(t.Context(), []queuedriver.Publishing{{
			Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: make([]byte, 10<<10)},
		}})
		if err != nil {
			break
		}
	}
	if err := c.close(); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("close: %v", err)
	}
	c, _ = startOn(t, disk.Crash(0, 1))
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
