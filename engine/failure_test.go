package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestFailedSync has the disk fail a sync: the call that needed it does not
// know, all others, waiting ones too, are told that nothing was done, and the
// next open has what was confirmed.
func TestFailedSync(t *testing.T) {
	disk := storetest.NewDisk()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	held := acquire(t, c, "held", "h")

	r := request("held", "waiter")
	r.Queue = true
	_, ticket, err := c.Acquire(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := c.Wait(t.Context(), r, ticket)
		waited <- err
	}()

	broken := errors.New("the disk is on fire")
	var failing atomic.Bool
	failing.Store(true)
	disk.OnOp(func(op storetest.Op) error {
		if op.Kind == storetest.Sync && failing.Load() {
			return broken
		}
		return nil
	})
	if _, _, err := c.Acquire(t.Context(), request("n", "h")); !errors.Is(err, lease.ErrUnknown) || errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("the call whose sync failed: %v", err)
	}
	if err := <-waited; !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("a call that waited: %v", err)
	}
	<-core.failed
	if _, _, err := c.Acquire(t.Context(), request("m", "h")); !errors.Is(err, lease.ErrUnavailable) || !errors.Is(err, store.ErrFailed) {
		t.Errorf("a later call: %v", err)
	}
	if err := core.err(); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("the engine says %v", err)
	}
	if err := core.close(); !errors.Is(err, store.ErrFailed) {
		t.Errorf("close: %v", err)
	}
	failing.Store(false)

	core, _ = startOn(t, disk.Crash(0, 1))
	release(t, lockConnOn(core), "held", "h", held.Token)
	if err := core.close(); err != nil {
		t.Error(err)
	}
}

// TestFullDisk refuses new grants while the disk is full, and nothing else.
func TestFullDisk(t *testing.T) {
	disk := storetest.NewDisk()
	s, err := store.Open(store.Options{Dir: "/data", FS: disk, ReserveBytes: 64 << 20, RoomEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	core, err := startCore(s, params{minTTL: time.Second}, false, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := lockConnOn(core)
	held := acquire(t, c, "held", "h")

	disk.SetQuota(disk.Used("/") + 32<<20) // less than the reserve is left
	if _, _, err := c.Acquire(t.Context(), request("n", "h")); !errors.Is(err, lease.ErrNoSpace) {
		t.Errorf("a new grant: %v", err)
	}
	if g := acquire(t, c, "held", "h"); g.Token != held.Token {
		t.Errorf("a repeat got token %d, not %d", g.Token, held.Token)
	}
	outs, err := c.Renew(t.Context(), []lockdriver.Ref{{Name: "held", Holder: "h", Token: held.Token, TTL: time.Minute}})
	if err != nil || outs[0].Err != nil {
		t.Errorf("a renewal: %v, %v", outs, err)
	}
	release(t, c, "held", "h", held.Token)

	disk.SetQuota(1 << 40)
	acquire(t, c, "n", "h")
	if err := core.close(); err != nil {
		t.Error(err)
	}
}

// TestStalledSync has a sync hang: no reply leaves before it is through, a
// caller whose context ends does not wait for it, and what that one asked for
// is undone.
func TestStalledSync(t *testing.T) {
	disk := storetest.NewDisk()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	acquire(t, c, "first", "h") // so that the log is open

	goOn := disk.StallSyncs()
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	const calls = 3 * roundsInFlight
	for i := range calls {
		go func() {
			name := fmt.Sprint("n", i)
			_, _, err := c.Acquire(t.Context(), request(name, "h"))
			results <- result{name, err}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := c.Acquire(ctx, request("impatient", "h")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, lease.ErrUnknown) {
		t.Errorf("the impatient caller got %v", err)
	}
	select {
	case r := <-results:
		t.Errorf("%s was answered before the sync: %v", r.name, r.err)
	default:
	}
	goOn()
	for range calls {
		if r := <-results; r.err != nil {
			t.Errorf("%s: %v", r.name, r.err)
		}
	}
	infos, err := c.List(t.Context(), &lockdriver.ListRequest{Prefix: "impatient"})
	if err != nil || len(infos) != 0 {
		t.Errorf("the impatient caller left %v, %v", infos, err)
	}
	if err := core.close(); err != nil {
		t.Error(err)
	}
}
