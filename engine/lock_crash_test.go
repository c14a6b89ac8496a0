package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

func lockConnOn(c *core) *lockConn { return newLockConn(&conn{core: c, gone: make(chan struct{})}) }

// lockFacts is what clients of locks were told, and what they asked for and
// have not been told yet.
type lockFacts struct {
	held     map[lockdriver.Ref]bool // confirmed
	released map[lockdriver.Ref]bool // confirmed
	doubt    map[string]bool         // names at work: anything may be true of them
	tokens   map[string]lease.Token  // the largest confirmed of each name
}

func (f *lockFacts) clone() *lockFacts {
	return &lockFacts{maps.Clone(f.held), maps.Clone(f.released), maps.Clone(f.doubt), maps.Clone(f.tokens)}
}

// lockLoad lets clients take, hand over, renew, break and release locks.
type lockLoad struct {
	t     *testing.T
	conn  *lockConn
	mu    sync.Mutex
	facts *lockFacts
}

// about has a name in doubt while do runs, and then notes what became certain.
func (l *lockLoad) about(name string, do func(), note func(f *lockFacts)) {
	l.mu.Lock()
	l.facts.doubt[name] = true
	l.mu.Unlock()
	do()
	l.mu.Lock()
	delete(l.facts.doubt, name)
	note(l.facts)
	l.mu.Unlock()
}

func (l *lockLoad) granted(f *lockFacts, ref lockdriver.Ref) {
	if ref.Token <= f.tokens[ref.Name] {
		l.t.Errorf("token %d of %s after %d", ref.Token, ref.Name, f.tokens[ref.Name])
	}
	f.tokens[ref.Name] = ref.Token
	f.held[ref] = true
}

func (f *lockFacts) freed(ref lockdriver.Ref) {
	delete(f.held, ref)
	f.released[ref] = true
}

func (l *lockLoad) acquire(name, holder string) (ref lockdriver.Ref) {
	l.about(name, func() {
		r := request(name, holder)
		r.Meta = map[string]string{"pid": holder}
		g, _, err := l.conn.Acquire(context.Background(), r)
		if err != nil {
			l.t.Errorf("acquire %s: %v", name, err)
			return
		}
		ref = lockdriver.Ref{Name: name, Holder: holder, Token: g.Token, TTL: time.Minute}
	}, func(f *lockFacts) { l.granted(f, ref) })
	return ref
}

func (l *lockLoad) release(ref lockdriver.Ref) {
	l.about(ref.Name, func() {
		if outs, err := l.conn.Release(context.Background(), []lockdriver.Ref{ref}); err != nil || outs[0].Err != nil {
			l.t.Errorf("release %v: %v, %v", ref, outs, err)
		}
	}, func(f *lockFacts) { f.freed(ref) })
}

// handOver queues a waiter behind ref, and releases or breaks ref.
func (l *lockLoad) handOver(ref lockdriver.Ref, holder string, brk bool) (next lockdriver.Ref) {
	l.about(ref.Name, func() {
		ctx := context.Background()
		r := request(ref.Name, holder)
		r.Queue = true
		_, ticket, err := l.conn.Acquire(ctx, r)
		if err != nil || ticket == nil {
			l.t.Errorf("queue for %s: %v", ref.Name, err)
			return
		}
		granted := make(chan *lockdriver.Grant)
		go func() {
			g, err := l.conn.Wait(ctx, r, ticket)
			if err != nil || g == nil {
				l.t.Errorf("wait for %s: %v, %v", ref.Name, g, err)
				g = &lockdriver.Grant{}
			}
			granted <- g
		}()
		if brk {
			err = l.conn.Revoke(ctx, &lockdriver.RevokeRequest{Name: ref.Name, Token: ref.Token, Break: true})
		} else {
			_, err = l.conn.Release(ctx, []lockdriver.Ref{ref})
		}
		if err != nil {
			l.t.Errorf("end %v: %v", ref, err)
		}
		next = lockdriver.Ref{Name: ref.Name, Holder: holder, Token: (<-granted).Token, TTL: time.Minute}
	}, func(f *lockFacts) {
		f.freed(ref)
		l.granted(f, next)
	})
	return next
}

// run is the load of one client on its own names.
func (l *lockLoad) run(client int) {
	rng := rand.New(rand.NewPCG(uint64(client), 1))
	refs := make(map[string]lockdriver.Ref)
	for i := range 60 {
		name, holder := fmt.Sprintf("%d/%d", client, rng.IntN(3)), fmt.Sprint("h", i)
		ref, held := refs[name]
		switch n := rng.IntN(4); {
		case !held:
			refs[name] = l.acquire(name, holder)
		case n < 2:
			l.release(ref)
			delete(refs, name)
		default:
			refs[name] = l.handOver(ref, holder, n == 3)
		}
	}
}

// TestLocksCrashAnywhere crashes before every write, sync and change of a
// directory under a load, opens what is left and compares it with what the
// clients were told: no confirmed grant is lost or shared with another, what
// was released stays released, and tokens never go back.
func TestLocksCrashAnywhere(t *testing.T) {
	type crash struct {
		disk  *storetest.Disk
		facts *lockFacts
	}
	var crashes []crash
	disk := storetest.NewDisk()
	load := &lockLoad{t: t, facts: &lockFacts{
		held: make(map[lockdriver.Ref]bool), released: make(map[lockdriver.Ref]bool),
		doubt: make(map[string]bool), tokens: make(map[string]lease.Token),
	}}
	disk.OnOp(func(storetest.Op) error {
		load.mu.Lock()
		defer load.mu.Unlock()
		percent := []int{0, 50, 100}[len(crashes)%3]
		crashes = append(crashes, crash{disk.Crash(percent, int64(len(crashes))), load.facts.clone()})
		return nil
	})
	c, _ := startOn(t, disk)
	load.conn = lockConnOn(c)
	var clients sync.WaitGroup
	for i := range 3 {
		clients.Go(func() { load.run(i) })
	}
	clients.Wait()
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	t.Logf("%d crashes", len(crashes))
	if len(crashes) < 200 {
		t.Errorf("only %d crashes: the load is too small", len(crashes))
	}
	for i, crash := range append(crashes, crash{disk, load.facts}) {
		crash.facts.check(t, crash.disk)
		if t.Failed() {
			t.Fatalf("crash %d", i)
		}
	}
}

// check opens a disk and compares it with the facts.
func (f *lockFacts) check(t *testing.T, disk *storetest.Disk) {
	t.Helper()
	core, _ := startOn(t, disk)
	c := lockConnOn(core)
	ctx := t.Context()
	infos, err := c.List(ctx, &lockdriver.ListRequest{Max: lockdriver.MaxList})
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		for _, g := range info.Grants {
			ref := lockdriver.Ref{Name: info.Name, Holder: g.Holder, Token: g.Token, TTL: time.Minute}
			if !f.held[ref] && !f.doubt[info.Name] {
				t.Errorf("%v is held, and nobody knows of it", ref)
			}
		}
	}
	for ref := range f.held {
		if f.doubt[ref.Name] {
			continue
		}
		if outs, err := c.Renew(ctx, []lockdriver.Ref{ref}); err != nil || outs[0].Err != nil {
			t.Errorf("%v was granted and is lost: %v, %v", ref, outs, err)
		}
		if _, _, err := c.Acquire(ctx, request(ref.Name, "rival")); !errors.Is(err, lockdriver.ErrHeld) {
			t.Errorf("%v is granted again: %v", ref, err)
		}
	}
	for ref := range f.released {
		if outs, err := c.Renew(ctx, []lockdriver.Ref{ref}); err != nil || outs[0].Err == nil {
			t.Errorf("%v was released and is held: %v", ref, err)
		}
	}
	g, _, err := c.Acquire(ctx, request("a new name", "h"))
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range f.tokens {
		if g.Token <= token {
			t.Errorf("token %d after %d of %s", g.Token, token, name)
		}
	}
	if err := core.close(); err != nil {
		t.Error(err)
	}
}
