package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
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
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
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
	return frame.AppendAcquire(nil, &lockdriver.Request{Name: name, Holder: holder, TTL: 10 * time.Second}, wait)
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
	if err != nil || g1.Token == 0 || g1.TTL != 10*time.Second {
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

// TestHostileSessions: who breaks the protocol is closed with a reason, and
// nobody else notices.
func TestHostileSessions(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	good := d.connect()
	one := func(id uint64, body []byte) []byte { return frame.AppendFrame(nil, id, body) }
	keep := one(1, frame.AppendReceive(nil, &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: frame.MaxCredit}, true))
	waits := func(n int) (b []byte) {
		for i := range n {
			b = frame.AppendFrame(b, uint64(i+1), acquireBody("held", fmt.Sprint("w", i), true)) //nolint:gosec // an index
		}
		return b
	}
	for name, c := range map[string]struct {
		batches [][]byte
		code    websocket.StatusCode
		reason  string
	}{
		"garbage":               {[][]byte{[]byte("GET / HTTP/1.1")}, websocket.StatusInvalidFramePayloadData, "malformed"},
		"half a frame":          {[][]byte{one(1, acquireBody("a", "h", false))[:9]}, websocket.StatusInvalidFramePayloadData, "breaks off"},
		"an unknown kind":       {[][]byte{one(1, []byte{0x8a, 0x7d, 0})}, websocket.StatusPolicyViolation, "must not send kind 2001"},
		"an unknown field":      {[][]byte{one(1, append([]byte{0x12, 3}, 0xf8, 0x07, 1))}, websocket.StatusInvalidFramePayloadData, "unknown field 127"},
		"a server's frame":      {[][]byte{one(1, frame.AppendGranted(nil, &lockdriver.Grant{Token: 1}))}, websocket.StatusPolicyViolation, "must not send granted"},
		"a greeting":            {[][]byte{one(0, frame.AppendHello(nil, &frame.Greeting{}))}, websocket.StatusPolicyViolation, "must not send hello"},
		"the same id":           {[][]byte{one(1, acquireBody("a", "h", false)), one(1, acquireBody("b", "h", false))}, websocket.StatusPolicyViolation, "not larger"},
		"the same id at once":   {[][]byte{append(one(1, acquireBody("a", "h", false)), one(1, acquireBody("b", "h", false))...)}, websocket.StatusPolicyViolation, "not larger"},
		"no id":                 {[][]byte{one(0, acquireBody("a", "h", false))}, websocket.StatusPolicyViolation, "not larger"},
		"cancel of nothing":     {[][]byte{one(1, frame.AppendCancel(nil))}, websocket.StatusPolicyViolation, "not made"},
		"credit for nothing":    {[][]byte{one(1, frame.AppendCredit(nil, 1))}, websocket.StatusPolicyViolation, "not made"},
		"credit past the limit": {[][]byte{keep, one(1, frame.AppendCredit(nil, 1))}, websocket.StatusPolicyViolation, "credit must be at most 1000000"},
		"credit of 2^63":        {[][]byte{keep, one(1, []byte{0x6a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})}, websocket.StatusInvalidFramePayloadData, "too large or negative"},
		"a huge list":           {[][]byte{one(1, frame.AppendSettle(nil, make([]queuedriver.Settlement, queuedriver.MaxBatch+1)))}, websocket.StatusInvalidFramePayloadData, "more than 10000 settlements"},
		"many lists": {[][]byte{bytes.Join(func() (all [][]byte) {
			for i := range uint64(11) {
				all = append(all, one(i+1, frame.AppendSettle(nil, make([]queuedriver.Settlement, queuedriver.MaxBatch))))
			}
			return all
		}(), nil)}, websocket.StatusInvalidFramePayloadData, "past the 100000 items"},
		"too many frames":  {[][]byte{bytes.Repeat(one(1, frame.AppendPing(nil)), frame.MaxFrames+1)}, websocket.StatusPolicyViolation, "at most 10000 frames"},
		"too many waits":   {[][]byte{waits(frame.MaxWaits + 1)}, websocket.StatusPolicyViolation, "that wait must be at most 4096"},
		"a large batch":    {[][]byte{make([]byte, frame.MaxBatch+1)}, websocket.StatusMessageTooBig, "read limited"},
		"text that is not": {[][]byte{one(1, acquireBody("\xff", "h", false))}, websocket.StatusInvalidFramePayloadData, "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			p := d.connect()
			p.t = t
			for _, b := range c.batches {
				if err := p.ws.Write(p.ctx, websocket.MessageBinary, b); err != nil && c.code != websocket.StatusMessageTooBig {
					t.Fatal(err)
				}
			}
			if ce := p.closed(); ce.Code != c.code || !strings.Contains(ce.Reason, c.reason) {
				t.Errorf("closed with %d %q, want %d ...%s...", ce.Code, ce.Reason, c.code, c.reason)
			}
		})
	}
	text := d.connect()
	if err := text.ws.Write(text.ctx, websocket.MessageText, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if ce := text.closed(); ce.Code != websocket.StatusUnsupportedData {
		t.Errorf("text: closed with %v", ce)
	}
	good.send(frame.AppendFrame(nil, 1, frame.AppendPing(nil)))
	good.expect(1, frame.Pong)
	settled(t, d)
}

// settled checks that nothing is counted any more for sessions that are gone.
func settled(t *testing.T, d *daemon) {
	t.Helper()
	until := time.Now().Add(10 * time.Second)
	for d.server.buffered.Load() != 0 || d.server.waiters.Load() != 0 || !d.server.answers.TryAcquire(d.server.cfg.MaxAnswers) {
		if time.Now().After(until) {
			t.Fatalf("left behind: %d bytes of requests, %d waiters", d.server.buffered.Load(), d.server.waiters.Load())
		}
		runtime.Gosched()
	}
	d.server.answers.Release(d.server.cfg.MaxAnswers)
}

// TestSessionLimitsAtTheirEdge: what is one too many above is not one too many
// without the one.
func TestSessionLimitsAtTheirEdge(t *testing.T) {
	d := start(t, nil)
	d.queue("q")
	p := d.connect()
	p.expect(p.ask(acquireBody("held", "h", false)), frame.Granted)
	var waits [][]byte
	for i := range frame.MaxWaits {
		waits = append(waits, acquireBody("held", fmt.Sprint("w", i), true))
	}
	p.ask(waits...)
	for range frame.MaxWaits {
		if f := p.next(); f.Kind != frame.Queued {
			t.Fatalf("got %v", f.Kind)
		}
	}
	p.send(bytes.Repeat(frame.AppendFrame(nil, 1, frame.AppendPing(nil)), frame.MaxFrames))
	for range frame.MaxFrames {
		p.expect(1, frame.Pong)
	}
	// The largest message of all fits.
	id := p.ask(publishBody("q", strings.Repeat("x", queuedriver.MaxBody)))
	p.expect(id, frame.Receipts)
	if err := p.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	settled(t, d)
}

// sluggishLocks releases nothing before it is let.
type sluggishLocks struct {
	lockdriver.Conn
	let chan struct{}
}

func (l sluggishLocks) Release(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	select {
	case <-l.let:
		return make([]lockdriver.Outcome, len(refs)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestUnansweredRequestsAreBounded(t *testing.T) {
	let := make(chan struct{})
	d := start(t, func(c *Config) { c.Locks = sluggishLocks{c.Locks, let} })
	release := frame.AppendRelease(nil, []lockdriver.Ref{{Name: "a", Holder: "h", Token: 1}})
	var most [][]byte
	for range frame.MaxCalls {
		most = append(most, release)
	}
	p, bad := d.connect(), d.connect()
	p.ask(most...)
	bad.ask(append(most, release)...)
	if ce := bad.closed(); ce.Code != websocket.StatusPolicyViolation || !strings.Contains(ce.Reason, "unanswered requests must be at most 2048") {
		t.Errorf("closed with %v", ce)
	}
	close(let)
	for range frame.MaxCalls {
		if f := p.next(); f.Kind != frame.Outcomes {
			t.Fatalf("got %v", f.Kind)
		}
	}
	p.expect(p.ask(release), frame.Outcomes)
	settled(t, d)
}

func TestSessionsAreGuarded(t *testing.T) {
	const token = "0123456789abcdef"
	d := start(t, func(c *Config) { c.Tokens = []string{token} })
	dial := func(h http.Header, protocol string) int {
		t.Helper()
		ws, resp, err := websocket.Dial(t.Context(), d.url+"/v1/connect", &websocket.DialOptions{HTTPClient: d.client, HTTPHeader: h, Subprotocols: []string{protocol}}) //nolint:bodyclose // by the library's contract it need not be
		if err == nil {
			_ = ws.CloseNow()
		}
		return resp.StatusCode
	}
	bearer := http.Header{"Authorization": {"Bearer " + token}}
	foreign := bearer.Clone()
	foreign.Set("Origin", "http://evil.example")
	for name, c := range map[string]struct {
		h        http.Header
		protocol string
		status   int
	}{
		"right":            {bearer, frame.Protocol, 101},
		"no token":         {http.Header{}, frame.Protocol, 401},
		"a foreign site":   {foreign, frame.Protocol, 403},
		"another protocol": {bearer, "mqtt", 400},
	} {
		if got := dial(c.h, c.protocol); got != c.status {
			t.Errorf("%s: status %d, want %d", name, got, c.status)
		}
	}
	p := d.refused("GET", "/v1/connect", "", "invalid", "Upgrade", "Authorization", "Bearer "+token)
	if p.Reason == "" {
		t.Errorf("a plain GET: %+v", p)
	}
}

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
	for metric(d, `lockkeeper_session_closes_total{reason="slow"}`) != "1" {
		if time.Now().After(until) {
			t.Fatal("it is not cut off")
		}
		runtime.Gosched()
	}
	settled(t, d)
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
