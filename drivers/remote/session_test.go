package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/server"
)

// plainProxy passes requests on, and no upgrades.
func plainProxy(t *testing.T, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(u)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Upgrade")
		r.Header.Del("Connection")
		r.Host = u.Host
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestFallsBackToHTTP where something refuses the upgrade, and says so once.
func TestFallsBackToHTTP(t *testing.T) {
	proxy := plainProxy(t, startDaemon(t, nil))
	var log bytes.Buffer
	for mode, works := range map[SessionMode]bool{"": true, SessionAuto: true, SessionOff: true, SessionOn: false} {
		c, err := New(t.Context(), proxy, &Options{Session: mode, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.Locks()
		if err != nil {
			t.Fatal(err)
		}
		log.Reset()
		for i := range 3 {
			_, _, err := conn.Acquire(t.Context(), &lockdriver.Request{Name: fmt.Sprint("a", mode, i), Holder: "h", TTL: 10 * time.Second})
			if works && err != nil {
				t.Errorf("%q: %v", mode, err)
			}
			if !works && (!errors.Is(err, lease.ErrUnavailable) || !strings.Contains(err.Error(), "refuses the session with 400")) {
				t.Errorf("%q: %v", mode, err)
			}
		}
		want := 0
		if mode == "" || mode == SessionAuto {
			want = 1
		}
		if got := strings.Count(log.String(), "the session is refused"); got != want {
			t.Errorf("%q: logged %d times:\n%s", mode, got, log.String())
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	var f *lease.FieldError
	if _, err := Open(t.Context(), proxy+"?session=perhaps"); !errors.As(err, &f) || f.Field != "session" {
		t.Errorf("another mode: %v", err)
	}
}

// shortLocks tells of fewer tokens than it has granted.
type shortLocks struct{ lockdriver.Conn }

func (c shortLocks) Acquire(ctx context.Context, r *lockdriver.Request) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	g, t, err := c.Conn.Acquire(ctx, r)
	if g != nil {
		g.More = nil
	}
	return g, t, err
}

// TestGrantWithoutTokens: an answer without a token for each name is none.
func TestGrantWithoutTokens(t *testing.T) {
	daemon := startDaemon(t, func(c *server.Config) { c.Locks = shortLocks{c.Locks} })
	c, err := New(t.Context(), daemon, &Options{Session: SessionOn})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Locks()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	g, _, err := conn.Acquire(t.Context(), &lockdriver.Request{Name: "a", More: []string{"b"}, Holder: "h", TTL: 10 * time.Second})
	if !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a grant of one of two names: %+v, %v", g, err)
	}
}

// TestOneConnection: all calls of a Client share it.
func TestOneConnection(t *testing.T) {
	w := newWeather(t, strings.TrimPrefix(startDaemon(t, nil), "http://"))
	w.fair = true
	l := openLocker(t.Context(), t, w.url())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 10 {
				if err := l.Do(t.Context(), fmt.Sprint("n", i%8), nil, func(context.Context, *lock.Lease) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := w.conns.Load(); n != 2 { // the first asks for the capabilities
		t.Errorf("%d connections for 64 goroutines", n)
	}
}

// TestReconnectLosesNothing: after a cut a lease that is still valid goes on
// with its token, and waiters keep their places.
func TestReconnectLosesNothing(t *testing.T) {
	w := newWeather(t, strings.TrimPrefix(startDaemon(t, nil), "http://"))
	w.fair = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := openLocker(ctx, t, w.url())
	held, err := l.Acquire(ctx, "a", &lock.Options{TTL: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 3)
	var done sync.WaitGroup
	defer done.Wait()
	for i := range 3 {
		waiter := openLocker(ctx, t, w.url())
		done.Go(func() {
			le, err := waiter.Acquire(ctx, "a", &lock.Options{TTL: 3 * time.Second})
			if err != nil {
				t.Errorf("waiter %d: %v", i, err)
				order <- -1
				return
			}
			order <- i
			if err := le.Release(ctx); err != nil {
				t.Errorf("waiter %d: %v", i, err)
			}
		})
		waitFor(ctx, t, "it waits", func() bool { return waiting(ctx, l, "a") == i+1 })
	}
	cutAll(w)
	// Past the TTL it is held only if it was renewed over the next connection.
	until := time.Now().Add(4 * time.Second)
	waitFor(ctx, t, "the TTL has passed", func() bool { return time.Now().After(until) })
	if err := held.Check(); err != nil {
		t.Errorf("the lease ended: %v", err)
	}
	waitFor(ctx, t, "all wait again", func() bool { return waiting(ctx, l, "a") == 3 })
	if err := held.Release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
	for i := range 3 {
		if got := <-order; got != i {
			t.Errorf("grant %d went to waiter %d", i, got)
		}
	}
}

func cutAll(w *weather) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.open {
		p.near.Close()
		p.far.Close()
	}
}

// TestBlackHoleIsNoticed: a connection that swallows everything is given up
// within the stated time, with the outcome unknown; one that is not there is
// waited for within the call's timeout.
func TestBlackHoleIsNoticed(t *testing.T) {
	h := newHole(t, strings.TrimPrefix(startDaemon(t, nil), "http://"))
	c, err := Open(t.Context(), h.url()+"?session=on&timeout=1m")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Locks()
	if err != nil {
		t.Fatal(err)
	}
	r := &lockdriver.Request{Name: "a", Holder: "h", ID: "1", TTL: 30 * time.Second}
	g, _, err := conn.Acquire(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	h.swallow()
	began := time.Now()
	_, err = conn.Release(t.Context(), []lockdriver.Ref{{Name: "a", Holder: "h", Token: g.Token}})
	if most := frame.PingBusy + frame.PingWait + 2*watchEvery; !errors.Is(err, lease.ErrUnknown) || time.Since(began) > most {
		t.Errorf("noticed after %v, at most %v: %v", time.Since(began), most, err)
	}
	h.heal()
	if out, err := conn.Release(t.Context(), []lockdriver.Ref{{Name: "a", Holder: "h", Token: g.Token}}); err != nil || out[0].Err != nil && !errors.Is(out[0].Err, lease.ErrNotHeld) {
		t.Errorf("over the next connection: %v, %v", out, err)
	}
	h.close()
	waitFor(t.Context(), t, "the end is noticed", func() bool {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		return c.link.conn == nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := conn.Acquire(ctx, r); !errors.Is(err, lease.ErrUnavailable) || errors.Is(err, lease.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nobody there: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestLargeBodiesGoBeside: what no batch can carry is an HTTP request, and the
// session goes on.
func TestLargeBodiesGoBeside(t *testing.T) {
	c, err := Open(t.Context(), startDaemon(t, nil)+"?session=on")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Locks()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	k := conn.(*lockConn)
	for _, n := range []int{maxSessionBody, maxSessionBody + 1, 2 * frame.MaxBatch} {
		body := append([]byte(`{"name":"`), bytes.Repeat([]byte("x"), n-len(`{"name":""}`))...)
		body = append(body, `"}`...)
		err := k.send(t.Context(), request{method: http.MethodPost, path: "/v1/locks/revoke"}, body, nil)
		if !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%d bytes: %v", n, err)
		}
		c.link.mu.Lock()
		if c.link.conn == nil {
			t.Errorf("%d bytes ended the session", n)
		}
		c.link.mu.Unlock()
	}
}
