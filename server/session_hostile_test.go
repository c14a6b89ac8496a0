package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

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
			b = frame.AppendFrame(b, uint64(i+1), acquireBody("held", fmt.Sprint("w", i), true))
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
