package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// raw opens a connection and writes text to it.
func (d *daemon) raw(text string) net.Conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		d.t.Fatal(err)
	}
	return c
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func TestSlowClients(t *testing.T) {
	d := start(t, func(c *Config) {
		c.HeaderTimeout, c.BodyTimeout, c.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	})
	header := d.raw("POST /v1/receive HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	if b, err := io.ReadAll(header); err != nil {
		t.Errorf("a header that never ends is not cut off: %q, %v", b, err)
	}
	body := d.raw("POST /v1/receive HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(body), nil) //nolint:bodyclose // the connection is closed
	if err != nil || resp.StatusCode != 408 {
		t.Fatalf("a body that never ends: %v, %v", resp, err)
	}
	idle := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if b, err := io.ReadAll(idle); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("an idle connection is not closed: %q, %v", b, err)
	}
	huge := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: " + strings.Repeat("x", MaxHeaderBytes+8192))
	resp, err = http.ReadResponse(bufio.NewReader(huge), nil) //nolint:bodyclose // the connection is closed
	if err != nil || resp.StatusCode != 431 {
		t.Errorf("a huge header: %v, %v", resp, err)
	}
	// The body's deadline must not end a long poll that comes after it.
	d.declare("q")
	var got wire.ReceiveReply
	began := time.Now()
	d.ok("POST", "/v1/receive", `{"queue":"q","wait_ms":400}`, &got)
	if took := time.Since(began); took < 390*time.Millisecond {
		t.Errorf("the poll ended after %v", took)
	}
}

func TestTooManyConnections(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxConns = 2 })
	a, b := d.raw(""), d.raw("")
	eventually(t, "two connections are open", func() bool {
		c := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		defer c.Close()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil) //nolint:bodyclose // the connection is closed
		return err == nil && resp.StatusCode == 429 && resp.Header.Get("Content-Type") == "application/problem+json"
	})
	a.Close()
	b.Close()
	eventually(t, "there is room again", func() bool {
		c := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		defer c.Close()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil) //nolint:bodyclose // the connection is closed
		return err == nil && resp.StatusCode == 200
	})
}

func TestTooManyWaiters(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxWaiters = 1 })
	d.declare("q")
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":10000}`, nil)
	d.raw(post("/v1/receive", `{"queue":"q","wait_ms":60000}`))
	eventually(t, "one waits", func() bool { return d.server.waiters.Load() == 1 })
	d.refuses("POST", "/v1/receive", `{"queue":"q","wait_ms":60000}`, "limit", "")
	if p := d.refused("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","ttl_ms":10000,"wait_ms":60000}`, "limit", ""); p.Ticket == "" {
		t.Error("the place in the line is not told")
	}
	d.ok("POST", "/v1/receive", `{"queue":"q"}`, nil)
}

func TestTooManyBytes(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxBuffered = 1 << 20 })
	d.declare("q")
	d.refuses("POST", "/v1/publish?key=q", strings.Repeat("x", 4<<20), "limit", "", "Content-Type", "text/plain")
	eventually(t, "all is given back", func() bool { return d.server.buffered.Load() == 0 })
	d.ok("POST", "/v1/publish?key=q", strings.Repeat("x", 1<<19), nil, "Content-Type", "text/plain")
}

func (d *daemon) waiting(name string) int {
	var locks wire.LocksReply
	d.ok("GET", "/v1/locks?name="+name, "", &locks)
	if len(locks.Locks) == 0 {
		return 0
	}
	return locks.Locks[0].Waiting
}

func TestVanishedWaiterLeavesTheLine(t *testing.T) {
	d := start(t, nil)
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, nil)
	c := d.raw(post("/v1/locks/acquire", `{"name":"a","holder":"2","ttl_ms":10000,"wait_ms":60000}`))
	eventually(t, "it waits", func() bool { return d.waiting("a") == 1 })
	c.Close()
	gone := time.Now()
	eventually(t, "it has left", func() bool { return d.waiting("a") == 0 })
	if took := time.Since(gone); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestWaiterIsWoken(t *testing.T) {
	d := start(t, nil)
	var first, second wire.AcquireReply
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, &first)
	granted := make(chan time.Time, 1)
	go func() {
		d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","ttl_ms":10000,"wait_ms":60000}`, &second)
		granted <- time.Now()
	}()
	// At least as long as the wire can show.
	eventually(t, "it has waited", func() bool {
		var locks wire.LocksReply
		d.ok("GET", "/v1/locks?name=a", "", &locks)
		return len(locks.Locks) == 1 && len(locks.Locks[0].Waiters) == 1 && locks.Locks[0].Waiters[0].Waiting >= 2
	})
	released := time.Now()
	d.ok("POST", "/v1/locks/release", fmt.Sprintf(`{"name":"a","holder":"1","token":%q}`, first.Token.String()), nil)
	if gap := (<-granted).Sub(released); gap > 2*time.Second {
		t.Errorf("the hand-over took %v", gap)
	}
	if second.Token <= first.Token || second.Waited <= 0 {
		t.Errorf("granted %+v after %+v", second, first)
	}
}

// TestCancelOvertakesNothing cancels acquires while they wait: afterwards the
// holder must neither wait nor hold.
func TestCancelOvertakesNothing(t *testing.T) {
	d := start(t, nil)
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, nil)
	for i := range 50 {
		id := fmt.Sprintf(`"name":"a","holder":"w","request_id":"%d"`, i)
		c := d.raw(post("/v1/locks/acquire", `{`+id+`,"ttl_ms":10000,"wait_ms":60000}`))
		eventually(t, "it waits", func() bool { return d.waiting("a") == 1 })
		c.Close()
		d.ok("POST", "/v1/locks/cancel", `{`+id+`}`, nil)
		if n := d.waiting("a"); n != 0 {
			t.Fatalf("cancel %d left %d in the line", i, n)
		}
	}
}

// lateQueues returns the deliveries of the first Receive only when its caller
// has gone.
type lateQueues struct {
	queuedriver.Conn
	once    sync.Once
	entered chan struct{}
}

func (q *lateQueues) Receive(ctx context.Context, r *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	ds, err := q.Conn.Receive(context.WithoutCancel(ctx), r)
	q.once.Do(func() {
		close(q.entered)
		<-ctx.Done()
	})
	return ds, err
}

func TestVanishedReceiverHandsBack(t *testing.T) {
	late := &lateQueues{entered: make(chan struct{})}
	d := start(t, func(c *Config) { late.Conn, c.Queues = c.Queues, late })
	d.declare("q")
	d.ok("POST", "/v1/publish?key=q", "x", nil, "Content-Type", "text/plain")
	c := d.raw(post("/v1/receive", `{"queue":"q","receive_id":"r"}`))
	<-late.entered
	c.Close()
	eventually(t, "the message is back", func() bool {
		var stats wire.QueuesReply
		d.ok("GET", "/v1/queues?name=q", "", &stats)
		return stats.Queues[0].Ready == 1 && stats.Queues[0].InFlight == 0
	})
	var got wire.ReceiveReply
	d.ok("POST", "/v1/receive", `{"queue":"q"}`, &got)
	if len(got.Deliveries) != 1 || got.Deliveries[0].Attempt != 1 {
		t.Errorf("a hand-back counts as an attempt: %+v", got)
	}
}

func TestCancelReceive(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	got := make(chan wire.ReceiveReply, 1)
	go func() {
		var r wire.ReceiveReply
		d.ok("POST", "/v1/receive", `{"queue":"q","wait_ms":60000,"receive_id":"r"}`, &r)
		got <- r
	}()
	eventually(t, "it waits", func() bool { return d.server.waiters.Load() == 1 })
	d.ok("POST", "/v1/receive/cancel", `{"receive_id":"r"}`, nil)
	if r := <-got; len(r.Deliveries) != 0 {
		t.Errorf("cancelled with %+v", r)
	}
	d.ok("POST", "/v1/publish?key=q", "x", nil, "Content-Type", "text/plain")
	var stats wire.QueuesReply
	d.ok("GET", "/v1/queues?name=q", "", &stats)
	if stats.Queues[0].Ready != 1 {
		t.Errorf("the cancelled receive took a message: %+v", stats)
	}
}

func TestShutdownEndsPolls(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, nil)
	var all sync.WaitGroup
	all.Go(func() {
		p := d.refused("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","ttl_ms":10000,"wait_ms":60000}`, "held", "")
		if p.Ticket == "" {
			t.Error("a waiter is not told its ticket")
		}
	})
	all.Go(func() {
		var got wire.ReceiveReply
		d.ok("POST", "/v1/receive", `{"queue":"q","wait_ms":60000}`, &got)
		if len(got.Deliveries) != 0 {
			t.Errorf("received %+v", got)
		}
	})
	eventually(t, "both wait", func() bool { return d.server.waiters.Load() == 2 })
	began := time.Now()
	if err := d.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := net.Dial("tcp", d.addr); err == nil {
		t.Error("it still accepts")
	}
	if a := d.serveDirect("GET", "/readyz", ""); a.status != 503 || a.problem(t).Code != "unavailable" {
		t.Errorf("readyz says %d %s", a.status, a.body)
	}
	if a := d.serveDirect("POST", "/v1/receive", `{"queue":"q"}`); a.status != 503 {
		t.Errorf("a latecomer gets %d %s", a.status, a.body)
	}
}

func TestShutdownIsBounded(t *testing.T) {
	stuck := &stuckLocks{entered: make(chan struct{}), leave: make(chan struct{})}
	d := start(t, func(c *Config) { stuck.Conn, c.Locks = c.Locks, stuck })
	d.raw(post("/v1/locks/release", `{"name":"a","holder":"1","token":"1"}`))
	<-stuck.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.server.Shutdown(ctx); err == nil {
		t.Error("Shutdown did not say that it cut something off")
	}
	close(stuck.leave)
	// Serve's own Shutdown, at the end of the test, finds nothing left.
}

type stuckLocks struct {
	lockdriver.Conn
	entered, leave chan struct{}
}

func (l *stuckLocks) Release(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	close(l.entered)
	<-l.leave
	return l.Conn.Release(ctx, refs)
}

type panickyLocks struct{ lockdriver.Conn }

func (panickyLocks) Revoke(context.Context, *lockdriver.RevokeRequest) error { panic("boo") }

func TestPanicsAreAnswered(t *testing.T) {
	d := start(t, func(c *Config) { c.Locks = panickyLocks{c.Locks} })
	a := d.do("POST", "/v1/locks/revoke", `{"name":"a"}`)
	p := a.problem(t)
	if a.status != 500 || p.Code != "internal" || !strings.Contains(p.Detail, p.Instance) || p.Instance != a.header.Get("X-Request-Id") || strings.Contains(string(a.body), "boo") {
		t.Errorf("%d %s", a.status, a.body)
	}
	d.ok("GET", "/healthz", "", nil)
}

func TestOneFaceOnly(t *testing.T) {
	d := start(t, func(c *Config) { c.Queues = nil })
	d.refuses("POST", "/v1/receive", `{"queue":"q"}`, "unsupported", "")
	var caps map[string]json.RawMessage
	d.ok("GET", "/v1/capabilities", "", &caps)
	if caps["queues"] != nil || caps["locks"] == nil {
		t.Errorf("capabilities %s", caps)
	}
	d.ok("GET", "/readyz", "", nil)
	d.ok("GET", "/metrics", "", nil)
}

func TestMetrics(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	d.ok("POST", "/v1/publish?key=q", "x", nil, "Content-Type", "text/plain")
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, nil)
	d.refuses("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","ttl_ms":60000}`, "held", "")
	d.refuses("POST", "/v1/locks/release", `{"name":"a","holder":"2","token":"1"}`, "not_held", "")
	text := string(d.do("GET", "/metrics", "").body)
	for _, line := range []string{
		`lockkeeper_request_duration_seconds_count{code="ok",op="acquireLock"} 1`,
		`lockkeeper_request_duration_seconds_count{code="held",op="acquireLock"} 1`,
		`lockkeeper_lock_grants_total{mode="exclusive"} 1`,
		`lockkeeper_lock_losses_total{code="not_held"} 1`,
		`lockkeeper_lock_wait_seconds_count 1`,
		`lockkeeper_waiters{for="lock"} 0`,
		`lockkeeper_messages_published_total{code="ok"} 1`,
		`lockkeeper_queue_stats_up 1`,
		`lockkeeper_queue_messages_ready{queue="q"} 1`,
		`lockkeeper_queue_oldest_age_seconds{queue="q"} `,
		`lockkeeper_build_info{version="test"} 1`,
		`lockkeeper_connections `,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestLockMetrics(t *testing.T) {
	d := start(t, nil)
	for _, name := range []string{"a", "b"} {
		d.ok("POST", "/v1/locks/acquire", fmt.Sprintf(`{"name":%q,"holder":"of %s","ttl_ms":60000}`, name, name), nil)
	}
	older := d.raw(post("/v1/locks/acquire", `{"name":"b","holder":"1","within":["of a"],"ttl_ms":60000,"wait_ms":60000}`))
	defer older.Close()
	eventually(t, "the first waits", func() bool { return d.waiting("b") == 1 })
	d.refuses("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","within":["of b"],"ttl_ms":60000,"wait_ms":60000}`, "deadlock", "")
	if n := metric(d, "lockkeeper_lock_deadlocks_total"); n != "1" {
		t.Errorf("%s deadlocks are counted, want 1", n)
	}
	watch := d.raw("GET /v1/locks/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, "a watch is open", func() bool { return metric(d, "lockkeeper_lock_watches") == "1" })
	watch.Close()
	eventually(t, "it is not", func() bool { return metric(d, "lockkeeper_lock_watches") == "0" })
}
