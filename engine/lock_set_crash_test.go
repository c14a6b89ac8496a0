package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// setRequest asks for three names at once.
func setRequest(client int, holder string) *lockdriver.Request {
	r := request(fmt.Sprintf("%d/a", client), holder)
	r.More = []string{fmt.Sprintf("%d/b", client), fmt.Sprintf("%d/c", client)}
	return r
}

// takeSets has a client take its three names, hand them over to a waiter and
// release them, again and again.
func takeSets(t *testing.T, c *lockConn, client int) {
	t.Helper()
	ctx := context.Background()
	release := func(r *lockdriver.Request, g *lockdriver.Grant) {
		refs := make([]lockdriver.Ref, r.Names())
		for i := range refs {
			refs[i] = lockdriver.Ref{Name: r.NameAt(i), Holder: r.Holder, Token: g.TokenAt(i)}
		}
		if outs, err := c.Release(ctx, refs); err != nil || outs[0].Err != nil || outs[1].Err != nil || outs[2].Err != nil {
			t.Errorf("release: %v, %v", outs, err)
		}
	}
	for i := range 12 {
		first := setRequest(client, fmt.Sprint("first ", i))
		g, _, err := c.Acquire(ctx, first)
		if err != nil {
			t.Errorf("acquire: %v", err)
			return
		}
		next := setRequest(client, fmt.Sprint("next ", i))
		next.Queue = true
		_, ticket, err := c.Acquire(ctx, next)
		if err != nil {
			t.Errorf("queue: %v", err)
			return
		}
		granted := make(chan *lockdriver.Grant)
		go func() {
			g, err := c.Wait(ctx, next, ticket)
			if err != nil {
				t.Errorf("wait: %v", err)
			}
			granted <- g
		}()
		release(first, g)
		if g := <-granted; g != nil {
			release(next, g)
		}
	}
}

// TestSeveralLocksCrashAnywhere crashes before every write, sync and change of
// a directory: what is left holds all of a set for one holder, or none of it.
func TestSeveralLocksCrashAnywhere(t *testing.T) {
	var mu sync.Mutex
	var crashes []*storetest.Disk
	disk := storetest.NewDisk()
	disk.OnOp(func(storetest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		percent := []int{0, 50, 100}[len(crashes)%3]
		crashes = append(crashes, disk.Crash(percent, int64(len(crashes))))
		return nil
	})
	core, _ := startOn(t, disk)
	conn := lockConnOn(core)
	var clients sync.WaitGroup
	for client := range 3 {
		clients.Go(func() { takeSets(t, conn, client) })
	}
	clients.Wait()
	if err := core.close(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	whole := 0
	for i, crashed := range crashes {
		whole += checkSets(t, crashed)
		if t.Failed() {
			t.Fatalf("crash %d", i)
		}
	}
	if len(crashes) < 50 || whole == 0 {
		t.Errorf("%d crashes with %d sets held: the load is too small", len(crashes), whole)
	}
}

// checkSets opens a disk and returns how many sets are held.
func checkSets(t *testing.T, disk *storetest.Disk) (whole int) {
	t.Helper()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	for client := range 3 {
		holders := map[string]int{}
		for i, r := 0, setRequest(client, ""); i < r.Names(); i++ {
			infos, err := c.List(t.Context(), &lockdriver.ListRequest{Name: r.NameAt(i)})
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range infos {
				for _, g := range info.Grants {
					holders[g.Holder]++
				}
			}
		}
		for holder, names := range holders {
			if names != 3 || len(holders) != 1 {
				t.Errorf("%s holds %d of 3 names, of %d holders", holder, names, len(holders))
			}
			whole++
		}
	}
	if err := core.close(); err != nil {
		t.Error(err)
	}
	return whole
}
