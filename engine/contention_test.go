package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestImpatientCrowd has many callers want one name and give up at any moment
// of their call. Nobody holds it together with another, tokens grow, and
// nothing is left in the end.
func TestImpatientCrowd(t *testing.T) {
	c := open(t, "file://"+t.TempDir(), nil).Locks()
	var holders, grants, gaveUp atomic.Int64
	var last lease.Token // under the lock itself
	var crowd sync.WaitGroup
	for i := range 16 {
		crowd.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range 60 {
				r := request("n", fmt.Sprintf("%d/%d", i, n))
				r.Queue = true
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(8000))*time.Microsecond)
				g, err := wait(ctx, c, r)
				cancel()
				if err != nil {
					gaveUp.Add(1)
					if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, lease.ErrUnknown) {
						t.Errorf("%s: %v", r.Holder, err)
					}
					if err := c.Cancel(context.Background(), r); err != nil {
						t.Errorf("cancel: %v", err)
					}
					continue
				}
				grants.Add(1)
				if holders.Add(1) != 1 || g.Token <= last {
					t.Errorf("%s holds %d after %d, with others", r.Holder, g.Token, last)
				}
				last = g.Token
				holders.Add(-1)
				release(t, c, "n", r.Holder, g.Token)
			}
		})
	}
	crowd.Wait()
	t.Logf("%d granted, %d gave up", grants.Load(), gaveUp.Load())
	if grants.Load() == 0 || gaveUp.Load() == 0 {
		t.Error("the crowd is too patient, or not patient enough")
	}
	if infos, err := c.List(t.Context(), &lockdriver.ListRequest{}); err != nil || len(infos) != 0 {
		t.Errorf("left: %v, %v", infos, err)
	}
}

// wait acquires in turn, as a client does.
func wait(ctx context.Context, c lockdriver.Conn, r *lockdriver.Request) (*lockdriver.Grant, error) {
	for {
		g, ticket, err := c.Acquire(ctx, r)
		if g != nil || err != nil {
			return g, err
		}
		r.Ticket = ticket
		if g, err := c.Wait(ctx, r, ticket); g != nil || err != nil {
			return g, err
		}
	}
}

// takeTurns has so many workers take one name so often, in turn.
func takeTurns(t testing.TB, c lockdriver.Conn, workers, turns int) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			ctx := context.Background()
			for next.Add(1) <= int64(turns) {
				r := request("n", fmt.Sprint("h", w))
				r.Queue = true
				g, err := wait(ctx, c, r)
				if err != nil {
					t.Error(err)
					return
				}
				release(t, c, r.Name, r.Holder, g.Token)
			}
		})
	}
	all.Wait()
}

// A release and the grant to the next in line are one sync: a hand-over costs
// no more than the disk does, and to join the line costs none.
func TestHandOverIsOneSync(t *testing.T) {
	e := open(t, "file://"+t.TempDir(), nil)
	const workers, turns = 20, 400
	before := e.core.store.Stats().Syncs.Count
	takeTurns(t, e.Locks(), workers, turns)
	// The first ones find the line short, and so do the last.
	if n := e.core.store.Stats().Syncs.Count - before; n > turns+2*workers {
		t.Errorf("%d syncs for %d turns", n, turns)
	}
}

// TestLargeRequests has more wanted at once than fits a round.
func TestLargeRequests(t *testing.T) {
	c := open(t, "mem://", nil).Locks()
	meta := make(map[string]string)
	for i := range lockdriver.MaxMeta {
		meta[fmt.Sprint("key", i)] = strings.Repeat("x", lockdriver.MaxMetaValue)
	}
	const calls = 4 * maxRoundBytes / (lockdriver.MaxMeta * lockdriver.MaxMetaValue)
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			r := request(fmt.Sprint("n", i), "h")
			r.Meta = meta
			if _, _, err := c.Acquire(context.Background(), r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	infos, err := c.List(t.Context(), &lockdriver.ListRequest{Max: lockdriver.MaxList})
	if err != nil || len(infos) != min(calls, lockdriver.MaxList) {
		t.Errorf("%d names of %d, %v", len(infos), calls, err)
	}
}
