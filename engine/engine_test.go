package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// open opens an engine that is closed with the test.
func open(t testing.TB, url string, opts *Options) *Engine {
	t.Helper()
	e, err := Open(t.Context(), url, opts)
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

func request(name, holder string) *lockdriver.Request {
	return &lockdriver.Request{Name: name, Holder: holder, TTL: time.Minute}
}

func acquire(t testing.TB, c lockdriver.Conn, name, holder string) *lockdriver.Grant {
	t.Helper()
	g, _, err := c.Acquire(t.Context(), request(name, holder))
	if err != nil {
		t.Fatalf("acquire %s for %s: %v", name, holder, err)
	}
	return g
}

func release(t testing.TB, c lockdriver.Conn, name, holder string, token lease.Token) {
	t.Helper()
	outs, err := c.Release(t.Context(), []lockdriver.Ref{{Name: name, Holder: holder, Token: token}})
	if err != nil || outs[0].Err != nil {
		t.Fatalf("release %s of %s: %v, %v", name, holder, outs, err)
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct{ url, wrong string }{
		{"mem://", ""},
		{"mem://?min_ttl=10ms&token_base=5", ""},
		{"redis://x", "url"},
		{"mem", "url"},
		{"mem://?colour=red", "url"},
		{"mem://#x", "url"},
		{"mem://%zz", "url"},
		{"mem://?%zz", "url"},
		{"file://", "url"},
		{"file://%00", "url"},
		{"mem://?min_ttl=0", "min_ttl"},
		{"mem://?min_ttl=10", "min_ttl"},
		{"mem://?min_ttl=1us", "min_ttl"},
		{"mem://?min_ttl=24h", ""},
		{"mem://?min_ttl=24h1s", "min_ttl"},
		{"mem://?min_ttl=1s&min_ttl=1s", "min_ttl"},
		{"mem://?token_base=-1", "token_base"},
		{"mem://?token_base=9223372036854775807", ""},
		{"mem://?token_base=9223372036854775808", "token_base"},
	} {
		e, err := Open(t.Context(), c.url, nil)
		if err == nil {
			err = e.Close()
		}
		var field *lease.FieldError
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.url, err)
		case c.wrong != "" && (!errors.As(err, &field) || field.Field != c.wrong):
			t.Errorf("%s: got %v, want an error about %s", c.url, err, c.wrong)
		}
	}
}

func TestSharedInTheProcess(t *testing.T) {
	for _, url := range []string{"mem://TestShared", "file://" + t.TempDir() + "/a store"} {
		a, b := open(t, url, nil), open(t, url, nil)
		g := acquire(t, a.Locks(), "n", "h")
		if _, _, err := b.Locks().Acquire(t.Context(), request("n", "other")); !errors.Is(err, lockdriver.ErrHeld) {
			t.Errorf("%s: two engines do not share: %v", url, err)
		}
		if _, err := Open(t.Context(), url+"?min_ttl=2s", nil); !errors.Is(err, lease.ErrConflict) {
			t.Errorf("%s: opened again with other parameters: %v", url, err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Locks().Acquire(t.Context(), request("m", "h")); !errors.Is(err, lease.ErrClosed) {
			t.Errorf("%s: a closed engine: %v", url, err)
		}
		release(t, b.Locks(), "n", "h", g.Token)
	}
}

func TestPrivateMemory(t *testing.T) {
	a, b := open(t, "mem://", nil), open(t, "mem://", nil)
	acquire(t, a.Locks(), "n", "h")
	acquire(t, b.Locks(), "n", "other")
}

func TestTokenBase(t *testing.T) {
	e := open(t, "mem://?token_base=1000000000000000000", nil)
	if g := acquire(t, e.Locks(), "n", "h"); g.Token <= 1_000_000_000_000_000_000 {
		t.Errorf("token %d is not above the base", g.Token)
	}
}

func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(store.Options{Dir: dir}) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "file://"+dir, nil); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second opener got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, "file://"+dir, nil)
}

func TestReopenKeepsWhatIsHeld(t *testing.T) {
	url := "file://" + t.TempDir()
	e := open(t, url, nil)
	held := acquire(t, e.Locks(), "held", "h")
	freed := acquire(t, e.Locks(), "freed", "h")
	release(t, e.Locks(), "freed", "h", freed.Token)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c := open(t, url, nil).Locks()
	if _, _, err := c.Acquire(t.Context(), request("held", "other")); !errors.Is(err, lockdriver.ErrHeld) {
		t.Errorf("what was held is not: %v", err)
	}
	release(t, c, "held", "h", held.Token)
	if g := acquire(t, c, "freed", "other"); g.Token <= freed.Token || g.Token <= held.Token {
		t.Errorf("token %d after %d and %d", g.Token, held.Token, freed.Token)
	}
}

// TestWaitEnds ends waits by the context, by the connection and by the engine.
func TestWaitEnds(t *testing.T) {
	for name, end := range map[string]func(cancel func(), c lockdriver.Conn, e *Engine) error{
		"context":    func(cancel func(), _ lockdriver.Conn, _ *Engine) error { cancel(); return context.Canceled },
		"connection": func(_ func(), c lockdriver.Conn, _ *Engine) error { c.Close(); return lease.ErrClosed },
		"engine":     func(_ func(), _ lockdriver.Conn, e *Engine) error { e.Close(); return lease.ErrClosed },
	} {
		t.Run(name, func(t *testing.T) {
			keep := open(t, "mem://"+t.Name(), nil) // so that the engine outlives its first handle
			e := open(t, "mem://"+t.Name(), nil)
			acquire(t, keep.Locks(), "n", "h")
			c := e.Locks()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := request("n", "waiter")
			r.Queue = true
			_, ticket, err := c.Acquire(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error)
			go func() {
				_, err := c.Wait(ctx, r, ticket)
				result <- err
			}()
			want := end(cancel, c, e)
			if err := <-result; !errors.Is(err, want) || errors.Is(err, lease.ErrUnknown) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

// TestCancelledAcquire leaves nothing behind, whenever its context ends.
func TestCancelledAcquire(t *testing.T) {
	c := open(t, "mem://", nil).Locks()
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		g, _, err := c.Acquire(ctx, request("n", fmt.Sprint(i)))
		if err == nil {
			release(t, c, "n", fmt.Sprint(i), g.Token)
		} else if !errors.Is(err, context.Canceled) || errors.Is(err, lease.ErrUnknown) {
			t.Fatal(err)
		}
		infos, err := c.List(t.Context(), &lockdriver.ListRequest{})
		if err != nil || len(infos) != 0 {
			t.Fatalf("attempt %d left %v, %v", i, infos, err)
		}
	}
}

// TestExpiryWakes has nobody but the engine's own timer end a lease.
func TestExpiryWakes(t *testing.T) {
	c := open(t, "mem://?min_ttl=50ms", nil).Locks()
	start := time.Now()
	r := request("n", "h")
	r.TTL = 50 * time.Millisecond
	if _, _, err := c.Acquire(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r = request("n", "next")
	r.Queue = true
	_, ticket, err := c.Acquire(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Wait(t.Context(), r, ticket)
	if err != nil || g == nil {
		t.Fatalf("wait: %v, %v", g, err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("granted after %v, while the lease of 50ms was live", took)
	}
}

func TestHandoff(t *testing.T) {
	c := open(t, "file://"+t.TempDir(), nil).Locks()
	g := acquire(t, c, "n", "first")
	const waiters = 200
	type result struct {
		i     int
		grant *lockdriver.Grant
		err   error
	}
	results := make(chan result)
	for i := range waiters {
		r := request("n", fmt.Sprint(i))
		r.Queue = true
		_, ticket, err := c.Acquire(t.Context(), r)
		if err != nil || ticket.Position != i+1 {
			t.Fatalf("waiter %d: %v, %v", i, ticket, err)
		}
		go func() {
			g, err := c.Wait(t.Context(), r, ticket)
			results <- result{i, g, err}
		}()
	}
	waitForListeners(t, c, "n", waiters)
	holder, token := "first", g.Token
	for i := range waiters {
		release(t, c, "n", holder, token)
		r := <-results
		if r.err != nil || r.i != i || r.grant.Token <= token {
			t.Fatalf("after %d: %d, %+v, %v", token, r.i, r.grant, r.err)
		}
		holder, token = fmt.Sprint(i), r.grant.Token
	}
}

// waitForListeners returns when a name's line has kept its length for longer
// than a waiter without a listener would.
func waitForListeners(t *testing.T, c lockdriver.Conn, name string, want int) {
	t.Helper()
	deadline := time.After(3 * c.Caps().DeadWaiter)
	for {
		infos, err := c.List(t.Context(), &lockdriver.ListRequest{Name: name})
		if err != nil || len(infos) != 1 || infos[0].Waiting != want {
			t.Fatalf("%v, %v", infos, err)
		}
		if ws := infos[0].Waiters; ws[len(ws)-1].Waiting > c.Caps().DeadWaiter {
			return
		}
		select {
		case <-deadline:
			t.Fatal("time does not pass")
		default:
			runtime.Gosched()
		}
	}
}

func TestCloseLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		e, err := Open(t.Context(), "file://"+t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		acquire(t, e.Locks(), "n", "h")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
	if len(shared.entries) != 0 {
		t.Errorf("the registry still has %v", shared.entries)
	}
}

func TestBatchLimits(t *testing.T) {
	c := open(t, "mem://", nil).Locks()
	refs := make([]lockdriver.Ref, lockdriver.MaxBatch+1)
	for i := range refs {
		refs[i] = lockdriver.Ref{Name: "n", Holder: "h", Token: 1, TTL: time.Minute}
	}
	if _, err := c.Renew(t.Context(), refs); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("one lease too many: %v", err)
	}
	outs, err := c.Renew(t.Context(), refs[1:])
	if err != nil || len(outs) != lockdriver.MaxBatch || !errors.Is(outs[0].Err, lease.ErrNotHeld) {
		t.Errorf("the largest batch: %d outcomes, %v", len(outs), err)
	}
	refs[5].TTL = MaxTTL + 1
	if _, err := c.Renew(t.Context(), refs[:10]); !errors.Is(err, lease.ErrInvalid) {
		t.Errorf("too long a TTL: %v", err)
	}
	for _, r := range []*lockdriver.ListRequest{{Max: -1}, {Max: lockdriver.MaxList + 1}, {Name: "n", Prefix: "p"}} {
		if _, err := c.List(t.Context(), r); !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("list %+v: %v", r, err)
		}
	}
}
