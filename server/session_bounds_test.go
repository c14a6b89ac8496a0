package server

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// only returns the one session of a daemon.
func (d *daemon) only() *session {
	d.t.Helper()
	d.server.sessions.mu.Lock()
	defer d.server.sessions.mu.Unlock()
	if len(d.server.sessions.all) != 1 {
		d.t.Fatalf("there are %d sessions", len(d.server.sessions.all))
	}
	for ss := range d.server.sessions.all {
		return ss
	}
	return nil
}

// until waits for what another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
	}
}

// TestClientThatOnlyPings and takes no pongs is not read any further, and then
// cut off: its pongs do not pile up.
func TestClientThatOnlyPings(t *testing.T) {
	d := start(t, func(c *Config) { c.WriteTimeout, c.MinRate = 500*time.Millisecond, 64<<20 })
	p := d.connect()
	ss := d.only()
	var pings []byte
	for range frame.MaxFrames {
		pings = frame.AppendFrame(pings, 1<<63, frame.AppendPing(nil))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 1000 {
			if p.ws.Write(p.ctx, websocket.MessageBinary, pings) != nil {
				return
			}
		}
	}()
	most := 0
	until(t, "it is cut off as slow", func() bool {
		most = max(most, ss.out.Bytes())
		ss.mu.Lock()
		defer ss.mu.Unlock()
		return ss.why == "slow"
	})
	<-ended
	if limit := maxUnsent + 2*frame.Flush; most > limit {
		t.Errorf("%d bytes of pongs waited, at most %d", most, limit)
	}
	settled(t, d)
}

// TestSilenceCountsFromTheAnswer: a client that has its answer may be silent
// for as long as an idle one.
func TestSilenceCountsFromTheAnswer(t *testing.T) {
	let := make(chan struct{})
	d := start(t, func(c *Config) { c.Locks = sluggishLocks{c.Locks, let} })
	d.server.silenceBusy, d.server.silenceIdle = 300*time.Millisecond, time.Minute
	p := d.connect()
	id := p.ask(frame.AppendCall(nil, &frame.Request{Method: "POST", Path: "/v1/locks/release", Media: "application/json", Body: []byte(`{"name":"a","holder":"h","token":"1"}`)}))
	ss := d.only()
	until(t, "it is under way", func() bool { return ss.calls.Load() == 1 })
	p.send(frame.AppendFrame(nil, 1, frame.AppendPing(nil)))
	p.expect(1, frame.Pong)
	close(let)
	p.expect(id, frame.Reply)
	<-time.After(3 * d.server.silenceBusy) // what must not happen takes this long
	p.send(frame.AppendFrame(nil, 1, frame.AppendPing(nil)))
	p.expect(1, frame.Pong)
}

// TestBodiesOfCallsAreCounted: those that wait for their turn too.
func TestBodiesOfCallsAreCounted(t *testing.T) {
	let := make(chan struct{})
	d := start(t, func(c *Config) { c.Locks = sluggishLocks{c.Locks, let} })
	p := d.connect()
	ss := d.only()
	release := frame.AppendCall(nil, &frame.Request{Method: "POST", Path: "/v1/locks/release", Media: "application/json", Body: []byte(`{"name":"a","holder":"h","token":"1"}`)})
	for range maxSessionCalls {
		p.ask(release)
	}
	const large, each = 3, 8 << 20
	for range large {
		p.ask(frame.AppendCall(nil, &frame.Request{Method: "POST", Path: "/v1/nowhere", Query: strings.Repeat("q", each/2), Body: make([]byte, each/2)}))
	}
	until(t, "all are under way", func() bool { return ss.calls.Load() == maxSessionCalls+large })
	until(t, "they are counted", func() bool {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		return ss.held >= large*each && d.server.buffered.Load() >= large*each
	})
	close(let)
	for range maxSessionCalls + large {
		if f := p.next(); f.Kind != frame.Reply {
			t.Fatalf("got %v", f.Kind)
		}
	}
	settled(t, d)
	if ss.mu.Lock(); ss.held != 0 {
		t.Errorf("%d bytes are held when nothing is under way", ss.held)
	}
	ss.mu.Unlock()
}

// TestCallsThatWaitHoldUpNobody, however many there are.
func TestCallsThatWaitHoldUpNobody(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	p := d.connect()
	for i := range maxSessionCalls {
		p.ask(frame.AppendCall(nil, &frame.Request{Method: "POST", Path: "/v1/receive", Media: "application/json",
			Body: fmt.Appendf(nil, `{"queue":"q","consumer":"c%d","wait_ms":30000}`, i)}))
	}
	until(t, "all wait", func() bool { return d.server.waiters.Load() == maxSessionCalls })
	began := time.Now()
	p.expect(p.ask(frame.AppendCall(nil, &frame.Request{Method: "GET", Path: "/v1/queues", Query: "name=q"})), frame.Reply)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a call behind %d that wait took %v", maxSessionCalls, took)
	}
}

// TestBatchPastTheMemory of all requests: the client may come again.
func TestBatchPastTheMemory(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxBuffered = 1 << 20 })
	d.queue("q")
	p := d.connect()
	// The rest of it may find the connection closed.
	_ = p.ws.Write(p.ctx, websocket.MessageBinary, frame.AppendFrame(nil, 1, publishBody("q", strings.Repeat("x", 4<<20))))
	if _, _, err := p.ws.Read(p.ctx); err == nil {
		t.Error("it was answered")
	}
	until(t, "it is counted", func() bool { return metric(d, `lockkeeper_session_closes_total{reason="limit"}`) == "1" })
	settled(t, d)
	p = d.connect()
	p.expect(p.ask(publishBody("q", "x")), frame.Receipts)
}

// TestReceiveWithoutCreditWaits: it counts among the waiting requests of the
// daemon as long as it lasts.
func TestReceiveWithoutCreditWaits(t *testing.T) {
	d := start(t, func(c *Config) { c.MaxWaiters = 3 })
	d.queue("q")
	p := d.connect()
	receive := frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c"}, true)
	first := p.ask(receive)
	p.ask(receive)
	p.ask(receive)
	until(t, "all wait", func() bool { return d.server.waiters.Load() == 3 })
	p.refused(p.ask(receive), wire.CodeLimit)
	p.send(frame.AppendFrame(nil, first, frame.AppendCancel(nil)))
	p.expect(first, frame.Done)
	// With credit one is not counted twice.
	last := p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 2}, true))
	for range 2 {
		id := p.ask(publishBody("q", "m"))
		for range 2 {
			if f := p.next(); f.ID != id && (f.ID != last || f.Kind != frame.Deliveries) {
				t.Errorf("got %v of %d", f.Kind, f.ID)
			}
		}
	}
	_ = p.ws.CloseNow()
	settled(t, d)
}
