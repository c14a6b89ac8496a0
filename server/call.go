package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
)

// call is one request on its way through.
type call struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	control  *http.ResponseController
	route    *route
	received time.Time
	id       string
	query    url.Values
	code     string // of the answer, for metrics and the log
	status   int
	held     int64 // bytes of Server.buffered
}

func newBoot() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		s: s, w: w, r: r, control: http.NewResponseController(w), received: time.Now(),
		id: s.boot + "-" + strconv.FormatUint(s.requests.Add(1), 36),
	}
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	defer c.finish()
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

// finish ends a call, also one that panicked: the client gets a 500, the log
// gets the stack, and the daemon goes on.
func (c *call) finish() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		c.s.cfg.Logger.Error("panic in a request", "request", c.id, "path", c.r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if c.status == 0 {
			c.fail(wire.NewProblem(wire.CodeInternal, "", "the daemon failed on this request; its log has more under "+c.id))
		}
	}
	c.s.buffered.Add(-c.held)
	op := "none"
	if c.route != nil {
		op = c.route.op
	}
	took := time.Since(c.received)
	c.s.metrics.requests.WithLabelValues(op, c.code).Observe(took.Seconds())
	c.s.cfg.Logger.Debug("request", "request", c.id, "op", op, "method", c.r.Method, "path", c.r.URL.Path,
		"status", c.status, "code", c.code, "took", took, "remote", c.r.RemoteAddr)
	if p == http.ErrAbortHandler {
		panic(p)
	}
}

func (c *call) serve() error {
	methods := c.s.routes[c.r.URL.Path]
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	c.route = methods[method]
	if c.route == nil || !c.route.public {
		if err := c.s.guard.check(c.r); err != nil {
			return err
		}
	}
	if over, _ := c.r.Context().Value(overKey{}).(bool); over {
		c.w.Header().Set("Connection", "close")
		return wire.NewProblem(wire.CodeLimit, "", fmt.Sprintf("connections must be at most %d", c.s.cfg.MaxConns))
	}
	switch {
	case methods == nil:
		return wire.NewProblem(wire.CodeNoEndpoint, "", fmt.Sprintf("there is no %q; see /openapi.json", c.r.URL.Path))
	case c.route == nil:
		allow := make([]string, 0, len(methods))
		for m := range methods {
			allow = append(allow, m)
		}
		c.w.Header().Set("Allow", strings.Join(allow, ", "))
		return wire.NewProblem(wire.CodeMethod, "", fmt.Sprintf("%s takes %s", c.r.URL.Path, strings.Join(allow, ", ")))
	case c.s.drain.Err() != nil && !c.route.public:
		c.w.Header().Set("Connection", "close")
		return wire.NewProblem(wire.CodeUnavailable, "", "the daemon is shutting down")
	case c.route.needs == needsLocks && c.s.cfg.Locks == nil:
		return wire.NewProblem(wire.CodeUnsupported, "", "this daemon serves no locks")
	case c.route.needs == needsQueues && c.s.cfg.Queues == nil:
		return wire.NewProblem(wire.CodeUnsupported, "", "this daemon serves no queues")
	}
	var err error
	if c.query, err = parseQuery(c.r.URL.RawQuery, c.route.params); err != nil {
		return err
	}
	return c.route.serve(c)
}

// read returns the request's body, of at most limit bytes.
func (c *call) read(limit int64) ([]byte, error) {
	tooLarge := wire.NewProblem(wire.CodeTooLarge, "body", fmt.Sprintf("must be at most %d bytes", limit))
	if c.r.ContentLength > limit {
		c.w.Header().Set("Connection", "close")
		return nil, tooLarge
	}
	// A body that trickles in must not hold the connection for ever. The
	// deadline is lifted again: a long poll is to notice only a client that
	// really goes away.
	c.control.SetReadDeadline(time.Now().Add(c.s.cfg.BodyTimeout))
	defer c.control.SetReadDeadline(time.Time{})
	body := http.MaxBytesReader(c.w, c.r.Body, limit)
	b := make([]byte, 0, min(max(c.r.ContentLength+1, 512), 64<<10))
	for {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		var past *http.MaxBytesError
		switch {
		case err == io.EOF:
			return b, nil
		case errors.As(err, &past):
			return nil, tooLarge
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.w.Header().Set("Connection", "close")
			return nil, wire.NewProblem(wire.CodeTimeout, "body", fmt.Sprintf("must arrive within %v", c.s.cfg.BodyTimeout))
		case err != nil:
			return nil, wire.NewProblem(wire.CodeMalformed, "body", "broke off: "+err.Error())
		}
		if len(b) == cap(b) {
			if err := c.grow(&b); err != nil {
				return nil, err
			}
		}
	}
}

// grow doubles a body's buffer within what all bodies together may take.
func (c *call) grow(b *[]byte) error {
	more := int64(cap(*b))
	c.held += more
	if c.s.buffered.Add(more) > c.s.cfg.MaxBuffered {
		c.w.Header().Set("Connection", "close")
		return wire.NewProblem(wire.CodeLimit, "", fmt.Sprintf("requests under way must have at most %d bytes together; try again later", c.s.cfg.MaxBuffered))
	}
	next := make([]byte, len(*b), 2*cap(*b))
	copy(next, *b)
	*b = next
	return nil
}

// decode reads the request's JSON into v.
func (c *call) decode(v any) error {
	b, err := c.read(wire.MaxRequestBytes)
	if err != nil {
		return err
	}
	return wire.Decode(b, v)
}

// reply sends v with status 200, or nothing with 204 if v is nil.
func (c *call) reply(v any) error {
	if v == nil {
		c.code, c.status = "ok", http.StatusNoContent
		c.w.WriteHeader(c.status)
		return nil
	}
	b, err := wire.Encode(v)
	if err != nil {
		return err
	}
	c.code = "ok"
	return c.write(http.StatusOK, "application/json", b)
}

// write sends an answer. A client that does not take it in time is cut off.
// An error means that the client has not got all of it.
func (c *call) write(status int, contentType string, b []byte) error {
	c.status = status
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	c.control.SetWriteDeadline(time.Now().Add(c.s.cfg.WriteTimeout))
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	if _, err := c.w.Write(b); err != nil {
		return errGone{err}
	}
	if err := c.control.Flush(); err != nil {
		return errGone{err}
	}
	return nil
}

// errGone: the answer could not be written, so there is nobody to tell.
type errGone struct{ error }

// fail sends a problem.
func (c *call) fail(err error) {
	var gone errGone
	p := *wire.ProblemOf(err)
	p.Instance = c.id
	if errors.As(err, &gone) || p.Code == wire.CodeUnknown && c.gone() {
		c.code = "client_gone"
		return
	}
	c.code = p.Code
	if c.status != 0 {
		return // the answer has begun
	}
	switch p.Code {
	case wire.CodeDenied:
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="lockkeeper"`)
	case wire.CodeLimit, wire.CodeUnavailable:
		c.w.Header().Set("Retry-After", "1")
	case wire.CodeInternal:
		c.s.cfg.Logger.Error("request failed", "request", c.id, "path", c.r.URL.Path, "error", err)
	}
	b, encodeErr := wire.Encode(p)
	if encodeErr != nil {
		b = nil
	}
	// A client that is not there any more has no use for the problem either.
	_ = c.write(p.Status, "application/problem+json", b)
}

// wait returns a context for what may take long: it ends with the client's
// connection, when the server drains, or after d. ok is false if too many
// wait already.
func (c *call) wait(d time.Duration) (ctx context.Context, done func(), err error) {
	if n := c.s.waiters.Add(1); n > int64(c.s.cfg.MaxWaiters) {
		c.s.waiters.Add(-1)
		return nil, nil, wire.NewProblem(wire.CodeLimit, "", fmt.Sprintf("waiting requests must be at most %d; try again later", c.s.cfg.MaxWaiters))
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), d)
	stop := context.AfterFunc(c.s.drain, cancel)
	return ctx, func() {
		stop()
		cancel()
		c.s.waiters.Add(-1)
	}, nil
}

// gone says whether the client has gone away.
func (c *call) gone() bool { return c.r.Context().Err() != nil }

func validMax(field string, n, most int) error {
	if n < 0 || n > most {
		return lease.Invalidf(field, "must be 1 to %d, is %d", most, n)
	}
	return nil
}
