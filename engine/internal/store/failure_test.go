package store

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
)

// countOps runs a load on a healthy disk and returns how many operations it does.
func countOps(t *testing.T, load func(*storetest.Disk)) int64 {
	t.Helper()
	var n atomic.Int64
	d := storetest.NewDisk()
	d.OnOp(func(storetest.Op) error { n.Add(1); return nil })
	load(d)
	return n.Load()
}

// TestFailureAnywhere fails every operation in turn, for good or once, and
// checks that the store says so to everyone, closes, and that nothing that
// was confirmed is lost.
func TestFailureAnywhere(t *testing.T) {
	const rounds = 16
	states := history(t, 2, rounds)
	load := func(d *storetest.Disk) (confirmed int, s *Store) {
		s, err := Open(diskOptions(d))
		if err != nil {
			return 0, nil
		}
		g := newScribbler(2)
		for range rounds {
			if err := tryCommit(s, g.fill); err != nil {
				if !errors.Is(err, ErrFailed) || !errors.Is(err, lease.ErrUnavailable) {
					t.Errorf("commit on a failed store: %v", err)
				}
				break
			}
			confirmed++
		}
		return confirmed, s
	}
	ops := countOps(t, func(d *storetest.Disk) { _, s := load(d); closeStore(t, s) })
	latched := 0
	for at := int64(1); at <= ops; at += 3 * thinning { // all of them take minutes
		for _, forGood := range []bool{true, false} {
			d := storetest.NewDisk()
			var n atomic.Int64
			d.OnOp(func(op storetest.Op) error {
				if i := n.Add(1); i == at || forGood && i > at && !strings.HasSuffix(op.Path, ".sst") {
					return syscall.EIO
				}
				return nil
			})
			confirmed, s := load(d)
			if s != nil {
				if s.Err() != nil {
					latched++
					checkFailed(t, s)
				}
				s.Close() // says what it says, but returns
			}
			d.OnOp(nil)
			recovered(t, d.Crash(0, 1), states, confirmed)
			if s != nil {
				recovered(t, d, states, confirmed)
			}
			if t.Failed() {
				t.Fatalf("operation %d of %d, for good: %v", at, ops, forGood)
			}
		}
	}
	if latched < int(ops)/6/thinning {
		t.Fatalf("only %d failures in %d operations", latched, ops)
	}
}

func checkFailed(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Failed():
	default:
		t.Error("Failed is not closed")
	}
	if _, err := s.NextDue(1); !errors.Is(err, ErrFailed) {
		t.Errorf("a read of a failed store: %v", err)
	}
	if err := tryCommit(s, newScribbler(9).fill); !errors.Is(err, ErrFailed) {
		t.Errorf("a commit on a failed store: %v", err)
	}
	if p, err := s.Apply(s.NewBatch()); !errors.Is(err, ErrFailed) {
		t.Errorf("an empty batch on a failed store: %v, %v", p, err)
	}
}

// TestSyncFailurePending fails the sync for which several batches wait.
func TestSyncFailurePending(t *testing.T) {
	d := storetest.NewDisk()
	o := diskOptions(d)
	o.MemTableBytes = 32 << 20 // a full one would have Apply wait for a sync
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	g := newScribbler(3)
	commit(t, s, g.fill)
	applied := make(chan struct{})
	d.OnOp(func(op storetest.Op) error {
		if op.Kind == storetest.Sync {
			<-applied
			return syscall.EIO
		}
		return nil
	})
	var pending []*Pending
	for range 5 {
		b := s.NewBatch()
		g.fill(b)
		p, err := s.Apply(b)
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	close(applied)
	for i, p := range pending {
		if err := p.Wait(); !errors.Is(err, ErrFailed) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
}

// TestStalledSync checks that nothing is confirmed while a sync takes long,
// that reads go on, and that all is confirmed afterwards.
func TestStalledSync(t *testing.T) {
	for _, syncCommit := range []bool{false, true} {
		d := storetest.NewDisk()
		o := diskOptions(d)
		o.SyncCommit = syncCommit
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		g := newScribbler(4)
		commit(t, s, g.fill)
		syncing := make(chan struct{}, 100)
		d.OnOp(func(op storetest.Op) error {
			if op.Kind == storetest.Sync {
				syncing <- struct{}{}
			}
			return nil
		})
		release := d.StallSyncs()
		done := make(chan error, 1)
		go func() { done <- tryCommit(s, g.fill) }()
		<-syncing
		if _, err := s.LoadIndex(1, 0, 10); err != nil {
			t.Errorf("a read during a sync: %v", err)
		}
		select {
		case err := <-done:
			t.Fatalf("confirmed before the sync: %v", err)
		default:
		}
		lost := openDisk(t, d.Crash(0, 1))
		if n := lost.Stats().Rounds; n != 1 {
			t.Errorf("round %d is on the disk without a sync", n)
		}
		closeStore(t, lost)
		release()
		if err := <-done; err != nil {
			t.Errorf("after the stall: %v", err)
		}
		if n := s.Stats().Syncs.Count; n < 2 {
			t.Errorf("%d syncs counted", n)
		}
		d.OnOp(nil)
		closeStore(t, s)
	}
}
