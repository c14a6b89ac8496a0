package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// peer is a client that sends whatever it is told to.
type peer struct {
	t     testing.TB
	ctx   context.Context
	ws    *websocket.Conn
	hello *frame.Greeting
	batch []byte
	id    uint64
}

func (d *daemon) connect() *peer {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	d.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, d.url+"/v1/connect", &websocket.DialOptions{HTTPClient: d.client, Subprotocols: []string{frame.Protocol}}) //nolint:bodyclose // by the library's contract it need not be
	if err != nil {
		d.t.Fatal(err)
	}
	ws.SetReadLimit(frame.MaxBatch)
	d.t.Cleanup(func() { _ = ws.CloseNow() })
	p := &peer{t: d.t, ctx: ctx, ws: ws}
	f := p.next()
	if p.hello, err = frame.ParseHello(f.Body); err != nil || f.Kind != frame.Hello {
		d.t.Fatalf("greeted with %v: %v", f.Kind, err)
	}
	return p
}

// send sends a batch as it is.
func (p *peer) send(batch []byte) {
	p.t.Helper()
	if err := p.ws.Write(p.ctx, websocket.MessageBinary, batch); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends requests with new ids in one batch, and returns the first id.
func (p *peer) ask(bodies ...[]byte) uint64 {
	p.t.Helper()
	first := p.id + 1
	var batch []byte
	for _, b := range bodies {
		p.id++
		batch = frame.AppendFrame(batch, p.id, b)
	}
	p.send(batch)
	return first
}

// next returns the next frame.
func (p *peer) next() frame.Frame {
	p.t.Helper()
	for len(p.batch) == 0 {
		_, b, err := p.ws.Read(p.ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		p.batch = b
	}
	f, rest, err := frame.Next(p.batch)
	if err != nil {
		p.t.Fatal(err)
	}
	p.batch = rest
	return f
}

// expect returns the body of the next frame, which must be as said.
func (p *peer) expect(id uint64, k frame.Kind) []byte {
	p.t.Helper()
	f := p.next()
	if f.ID != id || f.Kind != k {
		detail := ""
		if f.Kind == frame.Problem {
			if pr, err := frame.ParseProblem(f.Body); err == nil {
				detail = pr.Code + ": " + pr.Detail
			}
		}
		p.t.Fatalf("got %v of %d, want %v of %d (%s)", f.Kind, f.ID, k, id, detail)
	}
	return f.Body
}

func (p *peer) refused(id uint64, code string) {
	p.t.Helper()
	pr, err := frame.ParseProblem(p.expect(id, frame.Problem))
	if err != nil || pr.Code != code {
		p.t.Errorf("refused with %v, %v; want %s", pr, err, code)
	}
}

// closed returns why the server closed the session.
func (p *peer) closed() websocket.CloseError {
	p.t.Helper()
	for {
		_, _, err := p.ws.Read(p.ctx)
		if err == nil {
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) {
			p.t.Fatalf("cut off instead of closed: %v", err)
		}
		return ce
	}
}

func acquireBody(name, holder string, wait bool) []byte {
	return frame.AppendAcquire(nil, &lockdriver.Request{Name: name, Holder: holder, TTL: time.Minute}, wait)
}

func (d *daemon) queue(name string) {
	d.t.Helper()
	d.ok("PUT", "/v1/topology", fmt.Sprintf(`{"queues":[{"name":%q}]}`, name), &wire.TopologyReply{})
}

func publishBody(queue string, bodies ...string) []byte {
	var ps []queuedriver.Publishing
	for _, b := range bodies {
		ps = append(ps, queuedriver.Publishing{Route: queuedriver.Route{Key: queue}, Message: &queuedriver.Message{Body: []byte(b)}, Mandatory: true})
	}
	return frame.AppendPublish(nil, ps)
}

func TestSessionOfLocks(t *testing.T) {
	d := start(t, nil)
	p := d.connect()
	if p.hello.Service != wire.Service || p.hello.Version != "test" || p.hello.MaxCalls != frame.MaxCalls || !bytes.Contains(p.hello.Capabilities, []byte(`"backend":"engine"`)) {
		t.Errorf("greeted with %+v", p.hello)
	}
	id := p.ask(acquireBody("a", "h1", false))
	g1, err := frame.ParseGranted(p.expect(id, frame.Granted))
	if err != nil || g1.Token == 0 || g1.TTL != time.Minute {
		t.Fatalf("granted %+v, %v", g1, err)
	}
	p.refused(p.ask(acquireBody("a", "h2", false)), wire.CodeHeld)
	waiter := p.ask(acquireBody("a", "h3", true))
	place, err := frame.ParseQueued(p.expect(waiter, frame.Queued))
	if err != nil || place.Position != 1 || place.Opaque == "" {
		t.Fatalf("queued at %+v, %v", place, err)
	}
	// Two releases of one batch are one driver call, and two answers.
	ref := lockdriver.Ref{Name: "a", Holder: "h1", Token: g1.Token}
	id = p.ask(frame.AppendRelease(nil, []lockdriver.Ref{ref}), frame.AppendRelease(nil, []lockdriver.Ref{ref, ref}))
	var granted bool
	for range 3 {
		f := p.next()
		switch f.Kind {
		case frame.Granted:
			g, err := frame.ParseGranted(f.Body)
			if granted = f.ID == waiter; !granted || err != nil || g.Token <= g1.Token {
				t.Errorf("%d was granted %+v, %v", f.ID, g, err)
			}
		case frame.Outcomes:
			out, err := frame.ParseOutcomes(f.Body)
			if err != nil || len(out) != int(f.ID-id)+1 || (out[0].Err == nil) != (f.ID == id) {
				t.Errorf("released %+v, %v", out, err)
			}
		default:
			t.Errorf("got %v", f.Kind)
		}
	}
	if !granted {
		t.Error("the waiter was not granted")
	}
	p.refused(p.ask(acquireBody("", "h", false)), wire.CodeInvalid)
	p.refused(p.ask(frame.AppendRenew(nil, []lockdriver.Ref{{Name: "a", Holder: "h", Token: 1}})), wire.CodeInvalid)
	// A cancelled wait is answered, and so is one that is not there any more.
	id = p.ask(acquireBody("a", "h4", true))
	p.expect(id, frame.Queued)
	cancel := frame.AppendFrame(nil, id, frame.AppendCancel(nil))
	p.send(append(cancel, cancel...))
	p.refused(id, wire.CodeClosed)
	// A cancel in one batch with its request finds it.
	p.id++
	p.send(append(frame.AppendFrame(nil, p.id, acquireBody("a", "h5", true)), frame.AppendFrame(nil, p.id, frame.AppendCancel(nil))...))
	for f := p.next(); f.Kind != frame.Problem || f.ID != p.id; f = p.next() {
		if f.Kind != frame.Queued {
			t.Fatalf("got %v", f.Kind)
		}
	}
}

func TestSessionOfQueues(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	p := d.connect()
	// Publishes of a session keep their order, however they are batched.
	first := p.ask(publishBody("q", "0", "1"), publishBody("q", "2"), publishBody("nowhere", "x"), publishBody("q", "3"))
	for i := range uint64(4) {
		rs, err := frame.ParseReceipts(p.expect(first+i, frame.Receipts), 2)
		if err != nil || (rs[0].Err != nil) != (i == 2) {
			t.Errorf("publish %d: %+v, %v", i, rs, err)
		}
	}
	id := p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 10}, false))
	ds, more, err := frame.ParseDeliveries(p.expect(id, frame.Deliveries))
	if err != nil || more || len(ds) != 4 {
		t.Fatalf("received %d, %v, %v", len(ds), more, err)
	}
	for i := range ds {
		if string(ds[i].Message.Body) != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, ds[i].Message.Body)
		}
	}
	settle := func(i int, v queuedriver.Verb) []byte {
		return frame.AppendSettle(nil, []queuedriver.Settlement{{Ref: ds[i].Ref, Verb: v}})
	}
	id = p.ask(settle(0, queuedriver.Ack), settle(1, queuedriver.Ack), settle(2, queuedriver.Release), settle(3, queuedriver.Release))
	for i := range uint64(4) {
		if out, err := frame.ParseSettled(p.expect(id+i, frame.Settled), 1); err != nil || out[0].Err != nil {
			t.Errorf("settled %+v, %v", out, err)
		}
	}
	id = p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "empty?", Consumer: "c", Max: 1}, false))
	p.refused(id, wire.CodeNotFound)

	// A receive that goes on pushes as much as it has credit for.
	keep := p.ask(frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1}, true))
	ds, more, err = frame.ParseDeliveries(p.expect(keep, frame.Deliveries))
	if err != nil || !more || len(ds) != 1 {
		t.Fatalf("pushed %d, %v, %v", len(ds), more, err)
	}
	p.send(frame.AppendFrame(nil, 7, frame.AppendPing(nil)))
	p.expect(7, frame.Pong) // and nothing before it
	p.send(frame.AppendFrame(nil, keep, frame.AppendCredit(nil, 100)))
	if ds, _, err = frame.ParseDeliveries(p.expect(keep, frame.Deliveries)); err != nil || len(ds) != 1 {
		t.Fatalf("pushed %d, %v", len(ds), err)
	}
	id = p.ask(publishBody("q", "4"))
	for range 2 {
		if f := p.next(); f.ID != id && f.ID != keep {
			t.Errorf("got %v of %d", f.Kind, f.ID)
		}
	}
	p.send(frame.AppendFrame(nil, keep, frame.AppendCancel(nil)))
	p.expect(keep, frame.Done)
}

// TestSessionCalls: all of the HTTP interface is there.
func TestSessionCalls(t *testing.T) {
	d := start(t, nil)
	p := d.connect()
	call := func(c frame.Request) *frame.Answer {
		t.Helper()
		id := p.ask(frame.AppendCall(nil, &c))
		whole := &frame.Answer{}
		for {
			a, err := frame.ParseReply(p.expect(id, frame.Reply))
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 0 {
				whole.Status, whole.Media = a.Status, a.Media
			}
			if whole.Body = append(whole.Body, a.Body...); !a.More {
				return whole
			}
		}
	}
	if a := call(frame.Request{Method: "PUT", Path: "/v1/topology", Media: "application/json", Body: []byte(`{"queues":[{"name":"q"}]}`)}); a.Status != 200 || a.Media != "application/json" {
		t.Errorf("declared: %+v", a)
	}
	if a := call(frame.Request{Method: "GET", Path: "/v1/queues", Query: "name=q"}); a.Status != 200 || !bytes.Contains(a.Body, []byte(`"name":"q"`)) {
		t.Errorf("listed: %+v", a)
	}
	if a := call(frame.Request{Method: "DELETE", Path: "/v1/queues", Query: "name=q"}); a.Status != 204 || len(a.Body) != 0 {
		t.Errorf("deleted: %+v", a)
	}
	for _, c := range []frame.Request{{Method: "GET", Path: "/nowhere"}, {Path: "/v1/queues"}, {}, {Method: "GET", Path: "/v1/connect"}, {Method: "POST", Path: "/v1/publish", Media: "text/plain", Body: []byte("no JSON")}} {
		if a := call(c); a.Status < 400 || a.Media != "application/problem+json" {
			t.Errorf("%+v: %+v", c, a)
		}
	}
	// An answer that is longer than a chunk comes in several.
	long := strings.Repeat("x", 3*frame.Chunk)
	d.queue("long")
	id := p.ask(publishBody("long", long))
	p.expect(id, frame.Receipts)
	if a := call(frame.Request{Method: "GET", Path: "/v1/messages", Query: "queue=long"}); a.Status != 200 || !bytes.Contains(a.Body, []byte(long)) {
		t.Errorf("peeked: %d with %d bytes", a.Status, len(a.Body))
	}
}
