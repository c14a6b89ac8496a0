package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/internal/wire"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(quietClientsEnv); what != "" {
		if err := quietClientsMain(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
	os.Exit(m.Run())
}

// daemon is a server on a loopback port, over an engine of its own.
type daemon struct {
	t      testing.TB
	server *Server
	addr   string
	url    string
	client *http.Client
	doc    routers.Router
	ended  chan error
	stop   context.CancelFunc

	mu  sync.Mutex
	ops map[string]bool // operations that answered without a problem
}

// start serves until the test ends. change may be nil.
func start(t testing.TB, change func(*Config)) *daemon {
	t.Helper()
	e, err := engine.Open(t.Context(), "mem://", &engine.Options{MinTTL: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Locks: e.Locks(), Queues: e.Queues(), Version: "test"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &daemon{
		t: t, server: s, addr: ln.Addr().String(), url: "http://" + ln.Addr().String(), ops: map[string]bool{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second},
		doc:    readDoc(t, s), ended: make(chan error, 1), stop: stop,
	}
	go func() { d.ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		stop()
		if err := <-d.ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	})
	return d
}

func readDoc(t testing.TB, s *Server) routers.Router {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(s.openapi)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) problem(t testing.TB) *wire.Problem {
	t.Helper()
	p := &wire.Problem{}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("status %d has Content-Type %q and body %q, want a problem", a.status, got, a.body)
	}
	if err := json.Unmarshal(a.body, p); err != nil {
		t.Fatal(err)
	}
	if p.Status != a.status || p.Type != "urn:lockkeeper:problem:"+p.Code || p.Title == "" || p.Instance == "" {
		t.Errorf("incomplete problem with status %d: %s", a.status, a.body)
	}
	return p
}

// do sends a request as curl would, and holds the answer, and the request if
// it was accepted, against the OpenAPI document.
func (d *daemon) do(method, path, body string, headers ...string) *answer {
	d.t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: b}
	d.check(req, body, a)
	return a
}

func (d *daemon) check(req *http.Request, body string, a *answer) {
	d.t.Helper()
	probe, err := http.NewRequest(req.Method, req.URL.String(), strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	probe.Header = req.Header.Clone()
	probe.URL = &url.URL{Path: req.URL.Path, RawQuery: req.URL.RawQuery}
	route, params, err := d.doc.FindRoute(probe)
	if err != nil {
		return // not an operation: the caller looks at the answer
	}
	in := &openapi3filter.RequestValidationInput{
		Request: probe, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if a.status < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			d.t.Errorf("%s %s was accepted, and the document says: %v", req.Method, req.URL, err)
		}
		d.mu.Lock()
		d.ops[route.Operation.OperationID] = true
		d.mu.Unlock()
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Options: in.Options,
		Body: io.NopCloser(bytes.NewReader(a.body)),
	}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		d.t.Errorf("%s %s answered %d %s: %v", req.Method, req.URL, a.status, a.body, err)
	}
}

// ok sends a request that must succeed and reads the answer into out.
func (d *daemon) ok(method, path, body string, out any, headers ...string) {
	d.t.Helper()
	a := d.do(method, path, body, headers...)
	if a.status >= 300 {
		d.t.Fatalf("%s %s %.300s: %d %s", method, path, body, a.status, a.body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		d.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
	}
}

// refused sends a request that must fail with a code, and a field if one is
// given.
func (d *daemon) refused(method, path, body, code, field string, headers ...string) *wire.Problem {
	d.t.Helper()
	p := d.do(method, path, body, headers...).problem(d.t)
	if p.Code != code || field != "" && p.Field != field {
		d.t.Errorf("%s %s %.200s: code %q, field %q (%s); want %q, %q", method, path, body, p.Code, p.Field, p.Detail, code, field)
	}
	return p
}

// refuses is refused for those who do not look at the problem.
func (d *daemon) refuses(method, path, body, code, field string, headers ...string) {
	d.t.Helper()
	_ = d.refused(method, path, body, code, field, headers...)
}

func (d *daemon) declare(names ...string) {
	d.t.Helper()
	t := wire.Topology{}
	for _, n := range names {
		t.Queues = append(t.Queues, wire.Queue{Name: n})
	}
	b, err := wire.Encode(&t)
	if err != nil {
		d.t.Fatal(err)
	}
	d.ok("PUT", "/v1/topology", string(b), nil)
}

// eventually waits for what another connection brings about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
