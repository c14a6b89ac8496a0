package remote

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// watchSlack is what a busy machine may take on top of what is stated.
const watchSlack = 5 * time.Second

// watched is a Watch and an Observe of the same names through a proxy.
type watched struct {
	t       *testing.T
	locks   *lock.Locker
	told    chan map[string]lock.Token // by the Watch: all names with their tokens
	leaders chan lock.Leader           // by Observe
	over    chan error                 // of both
	cancel  context.CancelFunc

	state  map[string]lock.Token // was told last; nil: nothing was
	leader lock.Leader
}

// watchAll watches names that begin with "w/", and observes "w/a".
func watchAll(t *testing.T, url string) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	locks, err := lock.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{
		t: t, locks: locks, cancel: cancel,
		told: make(chan map[string]lock.Token, 1000), leaders: make(chan lock.Leader, 1000), over: make(chan error, 2),
	}
	t.Cleanup(func() { // if the test does not get as far as end
		cancel()
		_ = locks.Close()
	})
	go func() {
		for leader, err := range locks.Observe(ctx, "w/a") {
			if err != nil {
				w.over <- err
				return
			}
			w.leaders <- leader
		}
	}()
	go w.watch(ctx)
	return w
}

func (w *watched) watch(ctx context.Context) {
	names, synced := map[string]lock.Token{}, false
	for e, err := range w.locks.Watch(ctx, "w/") {
		if err != nil {
			w.over <- err
			return
		}
		switch e.Kind {
		case lock.EventReset:
			synced = false
			clear(names)
		case lock.EventState:
			names[e.Info.Name] = 0
			if len(e.Info.Grants) > 0 {
				names[e.Info.Name] = e.Info.Grants[0].Token
			}
		case lock.EventGone:
			delete(names, e.Info.Name)
		case lock.EventSynced:
			synced = true
		}
		if synced {
			w.told <- maps.Clone(names)
		}
	}
}

// await waits until what was told last is that "w/a" and "w/b" are held with
// these tokens, 0 for not at all.
func (w *watched) await(what string, a, b lock.Token, within time.Duration) {
	w.t.Helper()
	late := time.After(within)
	for w.state == nil || w.state["w/a"] != a || w.state["w/b"] != b || w.leader.Token != a {
		select {
		case w.state = <-w.told:
		case w.leader = <-w.leaders:
		case err := <-w.over:
			w.t.Fatalf("%s: ended with %v", what, err)
		case <-late:
			w.t.Fatalf("%s: not told within %v: the watch says %v, and that the leader is %v", what, within, w.state, w.leader)
		}
	}
}

// end ends both, by their context or by Close.
func (w *watched) end(byClose bool) {
	w.t.Helper()
	want := context.Canceled
	if byClose {
		want = lock.ErrClosed
		if err := w.locks.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	} else {
		w.cancel()
	}
	for range 2 {
		if err := <-w.over; !errors.Is(err, want) {
			w.t.Errorf("a watch ended with %v, want %v", err, want)
		}
	}
	if err := w.locks.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// noLeak has the test leave no goroutine behind. It is called first, so that
// it looks when all else is cleared up.
func noLeak(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		until := time.Now().Add(20 * time.Second)
		for runtime.NumGoroutine() > before {
			if time.Now().After(until) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			}
			runtime.Gosched()
		}
	})
}

func hold(t *testing.T, l *lock.Locker, name string) *lock.Lease {
	t.Helper()
	le, err := l.Acquire(t.Context(), name, &lock.Options{TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return le
}

func release(t *testing.T, le *lock.Lease) {
	t.Helper()
	if err := le.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A watch whose connections are cut, again and again and while names change,
// tells the state that they have in the end.
func TestWatchOutlastsCuts(t *testing.T) {
	for how, byClose := range map[string]bool{"ended by its context": false, "ended by Close": true} {
		t.Run(how, func(t *testing.T) {
			noLeak(t)
			url := startDaemon(t, nil)
			proxy := newHole(t, strings.TrimPrefix(url, "http://"))
			holder := openLocker(t.Context(), t, url)
			w := watchAll(t, proxy.url())
			w.await("nothing", 0, 0, watchSlack)
			for range 20 {
				a := hold(t, holder, "w/a")
				proxy.drop()
				b := hold(t, holder, "w/b")
				w.await("both are held", a.Token(), b.Token(), watchSlack)
				release(t, b)
				proxy.drop()
				w.await("one is released", a.Token(), 0, watchSlack)
				proxy.drop()
				release(t, a)
				w.await("none is held", 0, 0, watchSlack)
			}
			w.end(byClose)
		})
	}
}

// A connection that is up and carries nothing is given up when three
// heartbeats have been missed: after 15 s, and not before. What happened
// meanwhile is told then, over another connection.
func TestWatchOutlastsABlackHole(t *testing.T) {
	const patience = missedBeats * wire.WatchHeartbeat
	if patience != 15*time.Second {
		t.Errorf("a watch gives up after %v", patience)
	}
	noLeak(t)
	url := startDaemon(t, nil)
	proxy := newHole(t, strings.TrimPrefix(url, "http://"))
	holder := openLocker(t.Context(), t, url)
	w := watchAll(t, proxy.url())
	w.await("nothing", 0, 0, watchSlack)
	c, err := lock.OpenConn(t.Context(), proxy.url())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lone, err := c.Watch(t.Context(), &driver.WatchRequest{Name: "w/a"})
	if err != nil {
		t.Fatal(err)
	}
	defer lone.Close()
	for range 2 { // reset, synced
		if _, err := lone.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	proxy.strand()
	dark := time.Now()
	a, b := hold(t, holder, "w/a"), hold(t, holder, "w/b")
	events, err := lone.Next(t.Context())
	if after := time.Since(dark); !errors.Is(err, lease.ErrUnavailable) || after < patience-time.Second || after > patience+watchSlack {
		t.Errorf("without a sign of life: %v, %v after %v; want %v after %v", events, err, after, lease.ErrUnavailable, patience)
	}
	w.await("both are held", a.Token(), b.Token(), watchSlack)
	release(t, a)
	w.await("one is released", 0, b.Token(), watchSlack)
	w.end(false)
}

// A watch outlasts that its daemon is away for a while, and finds what it has
// become since: the same on a durable store, and nothing on another one.
func TestWatchOutlastsARestart(t *testing.T) {
	for store, durable := range map[string]bool{"file": true, "mem": false} {
		t.Run(store, func(t *testing.T) {
			noLeak(t)
			url := "mem://?min_ttl=50ms"
			if durable {
				url = "file://" + t.TempDir() + "?min_ttl=50ms"
			}
			d := startOn(t, url, nil)
			holder := openLocker(t.Context(), t, d.url())
			w := watchAll(t, d.url())
			a, b := hold(t, holder, "w/a"), hold(t, holder, "w/b")
			w.await("both are held", a.Token(), b.Token(), watchSlack)
			d.restart(t)
			if !durable {
				w.await("another store", 0, 0, watchSlack)
				w.end(true)
				return
			}
			release(t, b) // held on over the restart
			w.await("one is released", a.Token(), 0, watchSlack)
			d.restart(t)
			release(t, a)
			w.await("none is held", 0, 0, watchSlack)
			w.end(true)
		})
	}
}
