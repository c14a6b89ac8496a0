package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

// history remembers the state after each batch of a scribbler.
func history(t *testing.T, seed int64, rounds int) []state {
	t.Helper()
	s, err := Open(Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	states := make([]state, rounds+1)
	g := newScribbler(seed)
	for i := range states {
		if i > 0 {
			commit(t, s, g.fill)
		}
		if states[i], err = dump(s); err != nil {
			t.Fatal(err)
		}
		delete(states[i], "meta") // another incarnation
	}
	return states
}

// recovered opens a disk and returns which of the states it has.
func recovered(t *testing.T, d *storetest.Disk, states []state, least int) int {
	t.Helper()
	s := openDisk(t, d)
	defer closeStore(t, s)
	got, err := dump(s)
	if err != nil {
		t.Fatalf("reading after a crash: %v", err)
	}
	delete(got, "meta")
	n := int(s.Stats().Rounds)
	if n < least || n >= len(states) {
		t.Fatalf("round %d after a crash, %d were confirmed", n, least)
	}
	if d := diff(states[n], got); d != "" {
		t.Fatalf("not the state of round %d: %s", n, d)
	}
	waitIDs(s)
	for q := range uint32(2) {
		if err := dumpSeen(s, got, q+1); err != nil {
			t.Fatal(err)
		}
	}
	if d := diff(states[n], got); d != "" {
		t.Fatalf("not the state of round %d when all ids are known: %s", n, d)
	}
	return n
}

// TestCrashAnywhere crashes before every write, sync and change of a
// directory, from the making of the store to its close, with flushes and
// compactions under way, and checks that all confirmed batches are there and
// that nothing is half of a batch.
func TestCrashAnywhere(t *testing.T) {
	const rounds = 30
	states := history(t, 1, rounds)
	disk := storetest.NewDisk()
	var mu sync.Mutex
	confirmed, crashes := 0, 0
	type crash struct {
		disk  *storetest.Disk
		least int
	}
	var all []crash
	disk.OnOp(func(storetest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		crashes++
		percent := []int{0, 50, 100}[crashes%3]
		all = append(all, crash{disk.Crash(percent, int64(crashes)), confirmed})
		return nil
	})
	s := openDisk(t, disk)
	g := newScribbler(1)
	for range rounds {
		commit(t, s, g.fill)
		mu.Lock()
		confirmed++
		mu.Unlock()
	}
	if s.Stats().Flushes == 0 {
		t.Fatal("no flush: the test is too small")
	}
	closeStore(t, s)
	disk.OnOp(nil)
	t.Logf("%d crashes", len(all))
	for i, c := range all {
		if i%thinning != 0 {
			continue
		}
		recovered(t, c.disk, states, c.least)
		if t.Failed() {
			t.Fatalf("crash %d", i)
		}
	}
	if n := recovered(t, disk, states, rounds); n != rounds {
		t.Fatalf("round %d after a clean close", n)
	}
}

// TestCrashPipelined crashes at random moments with batches applied and not
// yet waited for, several times in a row on one store.
func TestCrashPipelined(t *testing.T) {
	const rounds = 30
	for seed := range int64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			states := history(t, seed, rounds)
			rng := rand.New(rand.NewPCG(uint64(seed), 0))
			disk := storetest.NewDisk()
			s := openDisk(t, disk)
			g := newScribbler(seed)
			var pending []*Pending
			confirmed := 0
			for range rounds {
				b := s.NewBatch()
				g.fill(b)
				p, err := s.Apply(b)
				if err != nil {
					t.Fatal(err)
				}
				pending = append(pending, p)
				for len(pending) > rng.IntN(4) {
					if err := pending[0].Wait(); err != nil {
						t.Fatal(err)
					}
					pending = pending[1:]
					confirmed++
				}
				if rng.IntN(5) == 0 {
					recovered(t, disk.Crash(rng.IntN(101), rng.Int64()), states, confirmed)
				}
			}
			closeStore(t, s)
			for _, p := range pending {
				if err := p.Wait(); err != nil {
					t.Errorf("Wait after Close: %v", err)
				}
			}
			recovered(t, disk, states, rounds)
		})
	}
}
