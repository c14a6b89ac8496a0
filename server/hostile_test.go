package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// status sends raw bytes and returns the status of the first answer.
func (d *daemon) status(text string) int {
	d.t.Helper()
	c := d.raw(text)
	defer c.Close()
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		d.t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestWaysAroundTheTokens tries to reach what is behind the tokens.
func TestWaysAroundTheTokens(t *testing.T) {
	d := start(t, func(c *Config) { c.Tokens = []string{secret} })
	for _, line := range []string{
		"GET //v1/locks", "GET /v1/locks/", "GET /./v1/locks", "GET /healthz/../v1/locks", "GET /v1/%6cocks",
		"GET http://localhost/v1/locks", "GET http://localhost/metrics", "GET /metrics", "GET /openapi.json", "GET /metrics?x",
		"HEAD /v1/locks", "HEAD /metrics", "OPTIONS *", "OPTIONS /v1/locks", "OPTIONS /healthz", "TRACE /v1/locks", "TRACE /healthz",
		"POST /healthz", "CONNECT localhost:1", "get /v1/locks", "PRI /v1/locks", "GET /v1/locks;/healthz", "GET /nowhere",
	} {
		if got := d.status(line + " HTTP/1.1\r\nHost: localhost\r\n\r\n"); got != http.StatusUnauthorized {
			t.Errorf("%s: status %d", line, got)
		}
	}
	token := []string{"Authorization", "Bearer " + secret}
	if a := d.do("HEAD", "/v1/locks", "", token...); a.status != 200 || len(a.body) != 0 {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	if a := d.do("HEAD", "/v1/publish", "", token...); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("HEAD of a POST: %d", a.status)
	}
	if a := d.do("TRACE", "/v1/locks", "", append(token, "X-Secret", "reflected")...); a.status != 405 || strings.Contains(string(a.body), "reflected") {
		t.Errorf("TRACE: %d %q", a.status, a.body)
	}
}

// TestAmbiguousRequests sends what two servers could read in two ways.
func TestAmbiguousRequests(t *testing.T) {
	d := start(t, nil)
	const head = "POST /v1/locks/cancel HTTP/1.1\r\nHost: localhost\r\n"
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"two lengths":        {head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
		"signed length":      {head + "Content-Length: +5\r\n\r\n", 400},
		"space before colon": {head + "Transfer-Encoding : chunked\r\n\r\n", 400},
		"unknown coding":     {head + "Transfer-Encoding: gzip\r\n\r\n", 501},
		"two codings":        {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 501},
		"bad chunk":          {head + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400},
		"two hosts":          {"GET /v1/locks HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},
		"no host":            {"GET /v1/locks HTTP/1.1\r\n\r\n", 400},
		"NUL in a header":    {"GET /v1/locks HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400},
		"no host, HTTP/1.0":  {"GET /v1/locks HTTP/1.0\r\n\r\n", 403},
		"long target":        {"GET /v1/locks?prefix=" + strings.Repeat("x", MaxHeaderBytes+8192) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431},
	} {
		if got := d.status(c.text); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
}

// TestUnreadBodies announces bodies that never come where nobody reads them.
func TestUnreadBodies(t *testing.T) {
	d := start(t, func(c *Config) {
		c.Tokens = []string{secret}
		c.BodyTimeout, c.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	for _, line := range []string{"POST /v1/receive", "GET /healthz", "POST /nowhere", "GET /v1/receive"} {
		for _, length := range []string{"Content-Length: 100", "Transfer-Encoding: chunked", "Content-Length: 1000000000"} {
			c := d.raw(line + " HTTP/1.1\r\nHost: localhost\r\n" + length + "\r\n\r\n")
			if b, err := io.ReadAll(c); err != nil {
				t.Errorf("%s, %s is not cut off: %q, %v", line, length, b, err)
			}
		}
	}
}

// slowLocks takes longer to revoke than an answer may take to be written.
type slowLocks struct{ lockdriver.Conn }

func (slowLocks) Revoke(context.Context, *lockdriver.RevokeRequest) error {
	<-time.After(100 * time.Millisecond)
	return nil
}

// TestDeadlinesDoNotOutliveTheirRequest: the time for writing one answer is
// not over for the next on the connection.
func TestDeadlinesDoNotOutliveTheirRequest(t *testing.T) {
	d := start(t, func(c *Config) {
		c.WriteTimeout = 20 * time.Millisecond
		c.Locks = slowLocks{c.Locks}
	})
	c := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + post("/v1/locks/revoke", `{"name":"a"}`) +
		"POST /v1/locks/revoke HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n")
	answers := bufio.NewReader(c)
	for _, want := range []int{200, 204, 100} {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("instead of %d: %v", want, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
			t.Errorf("status %d, %v; want %d", resp.StatusCode, err, want)
		}
		resp.Body.Close()
	}
}

// TestClientThatDoesNotRead: what it was sent comes back.
func TestClientThatDoesNotRead(t *testing.T) {
	d := start(t, func(c *Config) { c.WriteTimeout, c.MinRate = 100*time.Millisecond, 1<<40 })
	d.declare("q")
	for range 2 {
		d.ok("POST", "/v1/publish?key=q", strings.Repeat("\x00", queuedriver.MaxBody), nil, "Content-Type", "text/plain")
	}
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The answer must not fit the buffers on the way.
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, post("/v1/receive", `{"queue":"q"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the messages are handed back", func() bool {
		var stats wire.QueuesReply
		d.ok("GET", "/v1/queues?name=q", "", &stats)
		return stats.Queues[0].Delivered > 0 && stats.Queues[0].Ready == 2
	})
	eventually(t, "the room is free", func() bool {
		free := d.server.answers.TryAcquire(d.server.cfg.MaxAnswers)
		if free {
			d.server.answers.Release(d.server.cfg.MaxAnswers)
		}
		return free
	})
}

// countingQueues counts how many Receives are under way at once.
type countingQueues struct {
	queuedriver.Conn
	now, most atomic.Int64
}

func (q *countingQueues) Receive(ctx context.Context, r *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	if r.MaxBytes <= pollBytes {
		return q.Conn.Receive(ctx, r)
	}
	n := q.now.Add(1)
	defer q.now.Add(-1)
	for most := q.most.Load(); n > most && !q.most.CompareAndSwap(most, n); most = q.most.Load() {
	}
	return q.Conn.Receive(ctx, r)
}

// TestAnswersAreBounded has many receive at once what only two may have in
// memory. All get theirs, and those who wait for messages shut nobody out.
func TestAnswersAreBounded(t *testing.T) {
	counting := &countingQueues{}
	d := start(t, func(c *Config) {
		c.MaxAnswers = 2 * queuedriver.MaxReceiveBytes
		counting.Conn, c.Queues = c.Queues, counting
	})
	d.declare("q", "empty")
	const n = 40
	body := strings.Repeat("x", 1<<16)
	for range n {
		d.ok("POST", "/v1/publish?key=q", body, nil, "Content-Type", "text/plain")
	}
	for range n {
		d.raw(post("/v1/receive", `{"queue":"empty","wait_ms":60000}`))
	}
	eventually(t, "they wait", func() bool { return d.server.waiters.Load() == n })
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			var got wire.ReceiveReply
			d.ok("POST", "/v1/receive", `{"queue":"q","max":1}`, &got)
			if len(got.Deliveries) != 1 || len(*got.Deliveries[0].Body) != len(body) {
				t.Errorf("got %d deliveries", len(got.Deliveries))
			}
		})
	}
	all.Wait()
	if most := counting.most.Load(); most > 2 {
		t.Errorf("%d at once", most)
	}
}

// brokenLocks panics where nobody expects it.
type brokenLocks struct{ lockdriver.Conn }

func (brokenLocks) Wait(context.Context, *lockdriver.Request, *lockdriver.Ticket) (*lockdriver.Grant, error) {
	panic("boo")
}

type brokenQueues struct{ queuedriver.Conn }

func (brokenQueues) Stats(context.Context, *queuedriver.StatsRequest) ([]queuedriver.QueueStats, error) {
	panic("boo")
}

func TestPanicsLeaveNothingBehind(t *testing.T) {
	d := start(t, func(c *Config) { c.Locks, c.Queues = brokenLocks{c.Locks}, brokenQueues{c.Queues} })
	d.ok("POST", "/v1/locks/acquire", `{"name":"a","holder":"1","ttl_ms":60000}`, nil)
	d.refuses("POST", "/v1/locks/acquire", `{"name":"a","holder":"2","request_id":"r","ttl_ms":60000,"wait_ms":60000}`, "internal", "")
	if n := d.server.waiters.Load(); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
	d.ok("POST", "/v1/locks/cancel", `{"name":"a","holder":"2","request_id":"r"}`, nil)
	text := string(d.do("GET", "/metrics", "").body)
	for _, want := range []string{`lockkeeper_waiters{for="lock"} 0`, "lockkeeper_queue_stats_up 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// TestOnlyHTTP1: the limits count connections.
func TestOnlyHTTP1(t *testing.T) {
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	d := start(t, func(c *Config) {
		c.TLS = &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12}
	})
	c, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("it speaks %q", got)
	}
}

func TestCompressedBodies(t *testing.T) {
	d := start(t, nil)
	d.declare("q")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, `{"queue":"q"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d.refuses("POST", "/v1/receive", packed.String(), "invalid", "Content-Encoding", "Content-Encoding", "gzip")
	d.refuses("POST", "/v1/publish", packed.String(), "invalid", "Content-Encoding", "Content-Encoding", "gzip")
	d.ok("POST", "/v1/publish?key=q", packed.String(), nil, "Content-Encoding", "gzip", "Content-Type", "text/plain")
	var got wire.ReceiveReply
	d.ok("POST", "/v1/receive", `{"queue":"q"}`, &got)
	if m := got.Deliveries[0]; m.ContentEncoding != "gzip" || !bytes.Equal(*m.BodyBase64, packed.Bytes()) {
		t.Errorf("a packed body came out as %q, %q", m.ContentEncoding, *m.BodyBase64)
	}
}

// TestChunkedBodies are bounded without a Content-Length.
func TestChunkedBodies(t *testing.T) {
	d := start(t, nil)
	c := d.raw("POST /v1/purge HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	go func() {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat(" ", 1<<20))
		for range wire.MaxRequestBytes>>20 + 1 {
			if _, err := io.WriteString(c, chunk); err != nil {
				return // cut off, as it should
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %s", resp.Status)
	}
}

type failingLocks struct{ lockdriver.Conn }

func (failingLocks) List(context.Context, *lockdriver.ListRequest) ([]lockdriver.Info, error) {
	return nil, errors.New("open /secret/place: broken")
}

// TestReadyzTellsNoSecrets: it answers without a token.
func TestReadyzTellsNoSecrets(t *testing.T) {
	d := start(t, func(c *Config) { c.Locks = failingLocks{c.Locks} })
	if a := d.do("GET", "/readyz", ""); a.status != 503 || strings.Contains(string(a.body), "secret") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
