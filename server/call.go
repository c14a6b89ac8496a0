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
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// roomTimeout is how long an answer waits for its turn in memory.
const roomTimeout = 10 * time.Second

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
	answer   int64 // bytes of Server.answers

	session  *session                 // that it came over; nil: none
	admitted bool                     // by the guard, when its session began
	queued   func(*lockdriver.Ticket) // told the place in the line before an acquire waits; nil: nobody
}

func newBoot() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, nil) }

// serve serves one request. ss is the session that it came over, whose sender
// the guard has looked at; nil: none.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, ss *session) {
	c := &call{
		s: s, w: w, r: r, control: http.NewResponseController(w), received: time.Now(), admitted: ss != nil, session: ss,
		id: s.boot + "-" + strconv.FormatUint(s.requests.Add(1), 36),
	}
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	defer c.finish()
	// The deadlines of the request before it on this connection are over; a
	// 100 Continue has to get through.
	c.deadline(c.control.SetWriteDeadline, c.received.Add(s.cfg.WriteTimeout))
	if r.ContentLength != 0 {
		// A body that trickles in must not hold the connection for ever, nor
		// one that nobody reads: net/http waits for the rest of it.
		c.deadline(c.control.SetReadDeadline, c.received.Add(s.cfg.BodyTimeout))
	}
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

// finish ends a call, also one that panicked: the client gets a 500, the log
// gets the stack, and the daemon goes on.
func (c *call) finish() {
	p := recover()
	aborted := isAbort(p)
	if p != nil && !aborted {
		c.s.logPanic(p, "request", c.id, "path", c.r.URL.Path)
		if c.status == 0 {
			c.fail(wire.NewProblem(wire.CodeInternal, "", "the daemon failed on this request; its log has more under "+c.id))
		}
	}
	c.s.buffered.Add(-c.held)
	c.s.answers.Release(c.answer)
	op := "none"
	if c.route != nil {
		op = c.route.op
	}
	took := time.Since(c.received)
	c.s.metrics.requests.WithLabelValues(op, c.code).Observe(took.Seconds())
	c.s.cfg.Logger.Debug("request", "request", c.id, "op", op, "method", c.r.Method, "path", c.r.URL.Path,
		"status", c.status, "code", c.code, "took", took, "remote", c.r.RemoteAddr)
	if aborted {
		panic(p)
	}
}

func (s *Server) logPanic(p any, where ...any) {
	s.cfg.Logger.Error("panic in a request", append(where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))...)
}

// isAbort says whether a handler panicked on purpose, to cut the client off.
func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// allowance is how long n bytes may take on the network.
func (s *Server) allowance(base time.Duration, n int64) time.Duration {
	return base + time.Duration(float64(max(0, n))/float64(s.cfg.MinRate)*float64(time.Second))
}

// deadline sets one of the connection's deadlines. It can only fail where
// there is no connection, in tests.
func (c *call) deadline(set func(time.Time) error, t time.Time) { _ = set(t) }

func (c *call) serve() error {
	methods := c.s.routes[c.r.URL.Path]
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	c.route = methods[method]
	if !c.admitted && (c.route == nil || !c.route.public) {
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
	case c.s.draining() && !c.route.public:
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
	c.deadline(c.control.SetReadDeadline, time.Now().Add(c.s.allowance(c.s.cfg.BodyTimeout, c.r.ContentLength)))
	body := http.MaxBytesReader(c.w, c.r.Body, limit)
	b := make([]byte, 0, min(max(c.r.ContentLength+1, 512), 64<<10))
	for {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		var past *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			// A long poll is to notice only a client that really goes away.
			c.deadline(c.control.SetReadDeadline, time.Time{})
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

// uncoded refuses a compressed body: none is unpacked, so that a small request
// cannot become a huge one.
func (c *call) uncoded() error {
	if coding := c.r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return wire.NewProblem(wire.CodeInvalid, "Content-Encoding", "must be left out: bodies are not unpacked")
	}
	return nil
}

// decode reads the request's JSON into v.
func (c *call) decode(v any) error {
	if err := c.uncoded(); err != nil {
		return err
	}
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
		c.deadline(c.control.SetWriteDeadline, time.Now().Add(c.s.cfg.WriteTimeout))
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
	c.deadline(c.control.SetWriteDeadline, time.Now().Add(c.s.allowance(c.s.cfg.WriteTimeout, int64(len(b)))))
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	if _, err := c.w.Write(b); err != nil {
		return goneError{err}
	}
	if err := c.control.Flush(); err != nil {
		return goneError{err}
	}
	return nil
}

// goneError: the answer could not be written, so there is nobody to tell.
type goneError struct{ error }

// fail sends a problem.
func (c *call) fail(err error) {
	var gone goneError
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

// reserve takes room for the bodies of an answer, waiting for it if need be:
// without it a thousand large answers would be in memory at once. What is
// reserved is given back when the call ends.
func (c *call) reserve(ctx context.Context, n int64) error {
	n = min(n, c.s.cfg.MaxAnswers)
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	if err := c.s.answers.Acquire(ctx, n); err != nil {
		return wire.NewProblem(wire.CodeLimit, "", fmt.Sprintf("answers under way must have bodies of at most %d bytes together; try again later", c.s.cfg.MaxAnswers))
	}
	c.answer += n
	return nil
}

// keep gives back what is reserved beyond n.
func (c *call) keep(n int64) {
	if over := c.answer - n; over > 0 {
		c.s.answers.Release(over)
		c.answer = n
	}
}

// wait returns a context for what may take long: it ends with the client's
// connection, when the server drains, or after d. It is refused if too many
// wait already.
func (c *call) wait(d time.Duration) (ctx context.Context, done func(), err error) {
	if err := c.s.countWaiter(); err != nil {
		return nil, nil, err
	}
	if w, ok := c.w.(*callWriter); ok {
		w.rest()
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), d)
	stop := context.AfterFunc(c.s.drain, cancel)
	return ctx, func() {
		stop()
		cancel()
		c.s.waiters.Add(-1)
	}, nil
}

// countWaiter counts a request that waits, until it is taken from waiters.
func (s *Server) countWaiter() error {
	if n := s.waiters.Add(1); n > int64(s.cfg.MaxWaiters) {
		s.waiters.Add(-1)
		return wire.NewProblem(wire.CodeLimit, "", fmt.Sprintf("waiting requests must be at most %d; try again later", s.cfg.MaxWaiters))
	}
	return nil
}

// gone says whether the client has gone away.
func (c *call) gone() bool { return c.r.Context().Err() != nil }

func validMax(field string, n, most int) error {
	if n < 0 || n > most {
		return lease.Invalidf(field, "must be 1 to %d, is %d", most, n)
	}
	return nil
}
