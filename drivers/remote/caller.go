package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
)

// maxReply bounds what is read of one answer: the largest receive, with its
// bodies encoded, and the headers of a thousand messages.
const maxReply = 256 << 20

// maxSessionBody is how long a body may be that goes over the session: within
// what a batch can carry, so that others need not wait long behind it.
const maxSessionBody = wire.MaxRequestBytes

// caller makes the calls of one Conn: closing it ends them and waits for them.
type caller struct {
	c      *Client
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex // orders the Adds and Waits
	closing bool       // only errands go on
	calls   sync.WaitGroup
	errands sync.WaitGroup
	once    sync.Once // Close
}

// errandKey marks the context of an errand.
type errandKey struct{}

func newCaller(c *Client) *caller {
	s := &caller{c: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Close ends the calls under way with lease.ErrClosed. What abandoned calls
// left behind is cleared up first, in bounded time.
func (s *caller) Close() error {
	s.once.Do(func() {
		s.close()
		s.c.link.leave()
	})
	s.c.http.CloseIdleConnections()
	return nil
}

func (s *caller) close() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.errands.Wait()
	s.cancel(lease.ErrClosed)
	s.calls.Wait()
}

// enter counts a call, unless the caller is closed or closing. An errand's
// calls are let in until the caller is closed.
func (s *caller) enter(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing && ctx.Value(errandKey{}) == nil {
		return lease.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// errand runs what has to be cleared up behind a call whose caller has left.
// Close waits for it, so it must be bounded: it is, by timeout. errand reports
// false if the caller is closing; then do is not run.
func (s *caller) errand(timeout time.Duration, do func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.errands.Add(1)
	go func() {
		defer s.errands.Done()
		ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), errandKey{}, true), timeout)
		defer cancel()
		do(ctx)
	}()
	return true
}

// request says what to call.
type request struct {
	method, path string
	query        url.Values
	wait         time.Duration // on top of the call's timeout
	reads        bool          // changes nothing: a lost answer is no unknown outcome
}

// call sends in as JSON (nil: no body) and reads the answer into out (nil:
// there is none).
func (s *caller) call(ctx context.Context, r request, in, out any) error {
	var body []byte
	if in != nil {
		err := wire.CheckText(in)
		if err != nil {
			return err
		}
		if body, err = wire.Encode(in); err != nil {
			return lease.Invalidf("request", "cannot be sent as JSON: %v", err)
		}
	}
	return s.send(ctx, r, body, out)
}

// send makes one attempt, over the session if there is one.
func (s *caller) send(ctx context.Context, r request, body []byte, out any) error {
	if len(body) > maxSessionBody {
		return s.request(ctx, r, body, out) // a batch that it does not fit into would end the session
	}
	x, err := s.over(ctx, r.wait, len(body))
	if err != nil {
		return err
	}
	if x != nil {
		return s.sessionCall(x, r, body, out)
	}
	return s.request(ctx, r, body, out)
}

// request makes one HTTP request.
func (s *caller) request(ctx context.Context, r request, body []byte, out any) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait+s.c.allowance(len(body)))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	var sent atomic.Bool // a connection was had: bytes may have left
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	target := s.c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(traced, r.method, target, bytes.NewReader(body))
	if err != nil {
		return lease.Invalidf("url", "cannot be called: %v", err)
	}
	req.Header = s.c.header()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.c.http.Do(req)
	if err != nil {
		return s.lost(ctx, r, sent.Load(), unwrapURL(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return s.lost(ctx, r, true, err)
	}
	return s.answer(ctx, r, resp.StatusCode, resp.Header.Get("Content-Type"), b, out)
}

// unwrapURL drops the method and the URL, which the caller knows.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// lost says what a missing answer means.
func (s *caller) lost(ctx context.Context, r request, sent bool, err error) error {
	kind := lease.ErrUnavailable
	if sent && !r.reads {
		kind = lease.ErrUnknown
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", lease.ErrClosed, kind)
	}
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return fmt.Errorf("%w: %s: %w", kind, s.c.base, err)
}

// answer reads an answer that has come whole.
func (s *caller) answer(ctx context.Context, r request, status int, contentType string, b []byte, out any) error {
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case media == "application/problem+json":
		p := &wire.Problem{}
		if err := json.Unmarshal(b, p); err == nil && p.Code != "" {
			return &problemError{error: p.Err(), problem: p}
		}
	case status == http.StatusNoContent && out == nil:
		return nil
	case status == http.StatusOK && media == "application/json" && out != nil:
		err := json.Unmarshal(b, out)
		if err == nil {
			return nil
		}
		return s.lost(ctx, r, true, fmt.Errorf("the answer cannot be read: %w", err))
	}
	return s.lost(ctx, r, true, fmt.Errorf("what answers is not a lockkeeper, or something is between: %s %s says %s with %q", r.method, r.path, statusText(status), media))
}

func statusText(status int) string { return fmt.Sprintf("%d %s", status, http.StatusText(status)) }

// problemError is an error that the daemon reported.
type problemError struct {
	error
	problem *wire.Problem
}

func (e *problemError) Unwrap() error { return e.error }
