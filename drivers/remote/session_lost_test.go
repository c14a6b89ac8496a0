package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// greeter is a daemon that greets, admits one request and one wait at a time,
// and answers none before its sessions end.
func greeter(t *testing.T) (string, <-chan struct{}, chan<- struct{}) {
	t.Helper()
	asked, end := make(chan struct{}, 100), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/connect" {
			w.Header().Set("Content-Type", "application/json")
			if _, err := fmt.Fprintf(w, `{"service":%q,"locks":{}}`, wire.Service); err != nil {
				t.Error(err)
			}
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{frame.Protocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		hello := frame.AppendFrame(nil, 0, frame.AppendHello(nil, &frame.Greeting{
			Service: wire.Service, MaxBatch: frame.MaxBatch, MaxFrames: 10, MaxItems: 10, MaxCalls: 1, MaxWaits: 1,
			MaxCallBytes: frame.MaxCallBytes, MaxCredit: 1, SilenceBusy: time.Minute, SilenceIdle: time.Minute,
		}))
		if err := ws.Write(r.Context(), websocket.MessageBinary, hello); err != nil {
			return
		}
		go func() {
			for {
				if _, _, err := ws.Read(context.Background()); err != nil {
					return
				}
				asked <- struct{}{}
			}
		}()
		<-end
	}))
	t.Cleanup(s.Close)
	return s.URL, asked, end
}

// TestLostSessionFreesThoseWithoutRoom: whoever waits for room within the
// daemon's limits is told when the session ends, and that nothing left.
func TestLostSessionFreesThoseWithoutRoom(t *testing.T) {
	url, asked, end := greeter(t)
	c, err := New(t.Context(), url, &Options{Session: SessionOn})
	if err != nil {
		t.Fatal(err)
	}
	k, err := dialSession(t.Context(), c, func(*conn) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	results := make(chan error, 6)
	for i := range 6 {
		go func() {
			body := frame.AppendAcquire(nil, &lockdriver.Request{Name: "a", Holder: "h", TTL: time.Second}, i%2 == 0)
			results <- k.do(&exchange{s: newCaller(c), ctx: ctx}, &pending{kind: frame.Acquire, waits: i%2 == 0}, &body, 0)
		}()
	}
	<-asked
	close(end)
	sent := 0
	for range 6 {
		var lost *lostError
		if err := <-results; !errors.As(err, &lost) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request without an answer: %v", err)
		} else if lost.sent {
			sent++
		}
	}
	if sent > 2 {
		t.Errorf("%d requests may have left, two had room", sent)
	}
	k.close()
}

// TestLargePublishesKeepTheSession: a batch within the portable limits is
// split into requests within those of the session.
func TestLargePublishesKeepTheSession(t *testing.T) {
	c, err := Open(t.Context(), startDaemon(t, nil)+"?session=on&timeout=1m")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Queues()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	many := queuedriver.Headers{}
	for i := range queuedriver.MaxHeaders {
		many[fmt.Sprint("h", i)] = int64(i)
	}
	long := queuedriver.Headers{"h": strings.Repeat("x", queuedriver.MaxHeaderBytes-1)}
	for name, v := range map[string]struct {
		n int
		m *queuedriver.Message
	}{
		"many headers": {frame.MaxItems / queuedriver.MaxHeaders, &queuedriver.Message{Headers: many}},
		"long headers": {frame.MaxBatch/queuedriver.MaxHeaderBytes + 1, &queuedriver.Message{Headers: long}},
		"long bodies":  {queuedriver.MaxBatchBytes / queuedriver.MaxBody, &queuedriver.Message{Body: make([]byte, queuedriver.MaxBody)}},
		"a long one":   {1, &queuedriver.Message{Body: make([]byte, queuedriver.MaxBody), Headers: long}},
	} {
		t.Run(name, func(t *testing.T) {
			ps := make([]queuedriver.Publishing, v.n)
			for i := range ps {
				ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: "q"}, Message: v.m}
			}
			rs, err := conn.Publish(t.Context(), ps)
			if err != nil || len(rs) != len(ps) {
				t.Fatalf("%d receipts: %v", len(rs), err)
			}
			for i := range rs {
				if rs[i].Err != nil {
					t.Fatalf("message %d: %v", i, rs[i].Err)
				}
			}
			if _, err := conn.Purge(t.Context(), "q"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOutageOfTwoSeconds: a lease with a longer TTL does not notice, and who
// waits goes on waiting: in turn if the daemon has not noticed either. One that
// has seen the connections end keeps the places for a second.
func TestOutageOfTwoSeconds(t *testing.T) {
	t.Run("swallowed", func(t *testing.T) { outage(t, (*hole).swallow, true) })
	t.Run("cut", func(t *testing.T) { outage(t, (*hole).cut, false) })
}

func outage(t *testing.T, begin func(*hole), inTurn bool) {
	t.Helper()
	d := startOn(t, "mem://?min_ttl=50ms", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h := newHole(t, d.addr)
	near := openLocker(ctx, t, d.url())
	holder := openLocker(ctx, t, h.url()+"?session=on")
	held, err := holder.Acquire(ctx, "a", &lock.Options{TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 3)
	var done sync.WaitGroup
	defer done.Wait()
	for i := range 3 {
		waiter := openLocker(ctx, t, h.url()+"?session=on")
		done.Go(func() {
			le, err := waiter.Acquire(ctx, "a", &lock.Options{TTL: 10 * time.Second})
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
		waitFor(ctx, t, "it waits", func() bool { return waiting(ctx, near, "a") == i+1 })
	}
	begin(h)
	select {
	case <-time.After(2 * time.Second):
	case <-held.Context().Done():
		t.Fatalf("the lease ended: %v", context.Cause(held.Context()))
	}
	h.heal()
	if err := held.Check(); err != nil {
		t.Errorf("the lease ended: %v", err)
	}
	waitFor(ctx, t, "all wait again", func() bool { return waiting(ctx, near, "a") == 3 })
	if err := held.Release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
	for i := range 3 {
		if got := <-order; inTurn && got != i {
			t.Errorf("grant %d went to waiter %d", i, got)
		}
	}
}

// TestClientIsUsedAgain: a Conn that comes when the last one has left gets a
// session of its own.
func TestClientIsUsedAgain(t *testing.T) {
	c, err := Open(t.Context(), startDaemon(t, nil)+"?session=on")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		first, err := c.Locks()
		if err != nil {
			t.Fatal(err)
		}
		r := &lockdriver.Request{Name: "a", Holder: "h", ID: "1", TTL: time.Minute}
		if _, _, err := first.Acquire(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- first.Close() }()
		next, err := c.Locks()
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, _, err := next.Acquire(t.Context(), r); errors.Is(err, lease.ErrClosed) {
				t.Fatalf("an open Conn: %v", err)
			}
		}
		if err := errors.Join(<-closed, next.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDialIsTakenOver: a dial that was stopped with the last Conn is not what
// the next one waits for.
func TestDialIsTakenOver(t *testing.T) {
	c, err := Open(t.Context(), startDaemon(t, nil)+"?session=on")
	if err != nil {
		t.Fatal(err)
	}
	l := c.link
	l.join()
	ctx, stop := context.WithCancel(t.Context())
	stop() // as leave does
	l.dialing = true
	l.work.Go(func() { l.dial(ctx, stop) })
	wait, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if k, err := l.get(wait); k == nil || err != nil {
		t.Errorf("got %v, %v", k, err)
	}
	l.leave()
}
