package server

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestVanishedClient: its waiters leave the line within a second, what it was
// about to get is given back.
func TestVanishedClient(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	holder, waiter, next := d.connect(), d.connect(), d.connect()
	g, err := frame.ParseGranted(holder.expect(holder.ask(acquireBody("a", "h", false)), frame.Granted))
	if err != nil {
		t.Fatal(err)
	}
	waiter.expect(waiter.ask(acquireBody("a", "gone", true)), frame.Queued)
	waiter.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1000}, true))
	waiter.send(frame.AppendFrame(nil, 1, frame.AppendPing(nil)))
	waiter.expect(1, frame.Pong)
	id := next.ask(acquireBody("a", "next", true))
	next.expect(id, frame.Queued)
	_ = waiter.ws.CloseNow()
	began := time.Now()
	for d.server.waiters.Load() > 1 { // a grant that overtakes the news is its own until it ends
		runtime.Gosched()
	}
	holder.expect(holder.ask(frame.AppendRelease(nil, []lockdriver.Ref{{Name: "a", Holder: "h", Token: g.Token}})), frame.Outcomes)
	next.expect(id, frame.Granted)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a waiter that had gone was in the way for %v", took)
	}
	// Its receive is gone too: the message is for others.
	next.expect(next.ask(publishBody("q", "m")), frame.Receipts)
	id = next.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "n", Max: 1, Wait: 10 * time.Second}, false))
	ds, _, err := frame.ParseDeliveries(next.expect(id, frame.Deliveries))
	if err != nil || len(ds) != 1 || ds[0].Attempt != 1 {
		t.Errorf("received %+v, %v", ds, err)
	}
}

// TestClientThatDoesNotReadItsSession is cut off, with bounded memory, and what
// it did not take is given back.
func TestClientThatDoesNotReadItsSession(t *testing.T) {
	d := start(t, func(c *Config) { c.WriteTimeout, c.MinRate = 300*time.Millisecond, 64<<20 })
	d.queue("q")
	p := d.connect()
	body := strings.Repeat("x", 1<<20)
	const messages = 48
	for range messages {
		p.expect(p.ask(publishBody("q", body)), frame.Receipts)
	}
	p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: messages}, true))
	// It reads nothing more. What the kernel holds of it is all that is gone.
	until := time.Now().Add(20 * time.Second)
	waited := false // answers, as the metric has it
	for metric(d, `lockkeeper_session_closes_total{reason="slow"}`) != "1" {
		if time.Now().After(until) {
			t.Fatal("it is not cut off")
		}
		waited = waited || metric(d, "lockkeeper_session_unsent_bytes") != "0"
		runtime.Gosched()
	}
	settled(t, d)
	if left := metric(d, "lockkeeper_session_unsent_bytes"); !waited || left != "0" {
		t.Errorf("bytes were seen to wait: %v; when it was gone there were %s", waited, left)
	}
	var q wire.QueuesReply
	d.ok("GET", "/v1/queues?name=q", "", &q)
	if q.Queues[0].Ready < messages/2 {
		t.Errorf("of %d messages %d are ready again, %d in flight", messages, q.Queues[0].Ready, q.Queues[0].InFlight)
	}
}

func metric(d *daemon, name string) string {
	d.t.Helper()
	for line := range strings.Lines(string(d.do("GET", "/metrics", "").body)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestSilentClientIsGivenUp(t *testing.T) {
	d := start(t, func(*Config) {})
	d.server.silenceIdle, d.server.silenceBusy = 50*time.Millisecond, 50*time.Millisecond
	p := d.connect()
	if _, _, err := p.ws.Read(p.ctx); err == nil {
		t.Error("something came")
	}
	until := time.Now().Add(10 * time.Second)
	for metric(d, `lockkeeper_session_closes_total{reason="silent"}`) != "1" {
		if time.Now().After(until) {
			t.Fatal("it is not counted as silent")
		}
		runtime.Gosched()
	}
}

// TestShutdownEndsSessions: a waiter gets its ticket, a receiver its end, and
// then the session is closed with the reason.
func TestShutdownEndsSessions(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	p := d.connect()
	p.expect(p.ask(acquireBody("a", "h", false)), frame.Granted)
	waiter := p.ask(acquireBody("a", "w", true))
	p.expect(waiter, frame.Queued)
	keep := p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1000}, true))
	once := p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1000, Wait: time.Minute}, false))
	p.send(frame.AppendFrame(nil, 1, frame.AppendPing(nil)))
	p.expect(1, frame.Pong)
	d.stop()
	seen := map[uint64]frame.Kind{}
	for range 3 {
		f := p.next()
		seen[f.ID] = f.Kind
		if f.ID != waiter {
			continue
		}
		if pr, err := frame.ParseProblem(f.Body); err != nil || pr.Code != wire.CodeHeld || pr.Ticket == "" {
			t.Errorf("the waiter was told %+v, %v", pr, err)
		}
	}
	if seen[keep] != frame.Done || seen[once] != frame.Done || seen[waiter] != frame.Problem {
		t.Errorf("at the end: %v", seen)
	}
	if ce := p.closed(); ce.Code != websocket.StatusGoingAway {
		t.Errorf("closed with %v", ce)
	}
}

// FuzzSession: no bytes of a client make the daemon panic or leave anything
// behind. The first byte of each part says how long the batch behind it is.
func FuzzSession(f *testing.F) {
	f.Add(frame.AppendFrame(nil, 1, acquireBody("a", "h", true)))
	f.Add(frame.AppendFrame(nil, 1, publishBody("q", "m")))
	f.Add(frame.AppendFrame(nil, 1, frame.AppendCall(nil, &frame.Request{Method: "GET", Path: "/v1/locks"})))
	f.Add(frame.AppendFrame(nil, 1, frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1}, true)))
	d := start(f, nil)
	d.queue("q")
	f.Fuzz(func(t *testing.T, batch []byte) {
		d.t = t
		p := d.connect()
		p.send(batch)
		p.send(batch)
		_ = p.ws.CloseNow()
		for d.server.buffered.Load() != 0 || d.server.waiters.Load() != 0 {
			runtime.Gosched()
		}
	})
}
