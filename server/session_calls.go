package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
)

// maxSessionCalls is how many calls of a session run at once; more wait for
// their turn. One that waits for something, such as a long poll, does not
// count: it would hold up all others.
const maxSessionCalls = 64

// addCall begins a request of the HTTP interface.
func (ss *session) addCall(r *request, body []byte, g *gathered) error {
	if err := ss.begin(r, g); err != nil {
		return err
	}
	q, err := frame.ParseCall(body)
	if err != nil {
		return err
	}
	// It may take long: the rest of the batch must not stay with it.
	q.Body = bytes.Clone(q.Body)
	if err := r.keep(int64(len(body))); err != nil {
		return g.refuse(r, err)
	}
	g.rest = append(g.rest, taskFunc(func() error {
		ctx, cancel := r.stoppable(ss.ctx, nil)
		ss.work.Go(func() {
			defer cancel()
			r.serve(ctx, q)
		})
		return nil
	}))
	return nil
}

// serve lets the call go the way of a request over HTTP, past the guard, which
// has looked at the session.
func (r *request) serve(ctx context.Context, q *frame.Request) {
	ss := r.ss
	if ss.slots.Acquire(ctx, 1) != nil {
		r.fail(wire.NewProblem(wire.CodeUnavailable, "", "cancelled before its turn came"))
		return
	}
	w := &callWriter{r: r, header: http.Header{}, rest: sync.OnceFunc(func() { ss.slots.Release(1) })}
	defer w.rest()
	defer func() {
		if p := recover(); p != nil && !isAbort(p) { // serve has no panics but those on purpose
			ss.s.logPanic(p, "remote", ss.r.RemoteAddr)
		}
		w.finish()
	}()
	hr := (&http.Request{
		Method: q.Method, URL: &url.URL{Path: q.Path, RawQuery: q.Query}, Host: ss.r.Host, RemoteAddr: ss.r.RemoteAddr, TLS: ss.r.TLS,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(q.Body)), ContentLength: int64(len(q.Body)),
	}).WithContext(ctx)
	if q.Media != "" {
		hr.Header.Set("Content-Type", q.Media)
	}
	ss.s.serve(w, hr, ss)
}

// callWriter sends the answer to a call: in one frame, or in several if it is
// long or is flushed as it comes.
type callWriter struct {
	r      *request
	header http.Header
	rest   func() // gives the call's turn to another
	status int
	begun  bool // a part was sent: status and media type are said
	ended  bool
	body   []byte
	err    error
}

func (w *callWriter) Header() http.Header { return w.header }

func (w *callWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write fails when the client has gone: then it has not got the answer.
func (w *callWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	n := len(p)
	for len(p) > 0 && w.err == nil {
		k := min(len(p), frame.Chunk-len(w.body))
		w.body = append(w.body, p[:k]...)
		p = p[k:]
		if len(w.body) == frame.Chunk && len(p) > 0 {
			w.part(true)
		}
	}
	if w.err == nil && w.header.Get("Content-Length") == strconv.Itoa(n) { // that was all
		w.finish()
	}
	return n, w.err
}

// FlushError sends what there is, unless the length of the answer is known.
func (w *callWriter) FlushError() error {
	if w.header.Get("Content-Length") == "" && !w.ended {
		w.part(true)
	}
	return w.err
}

func (w *callWriter) finish() {
	if w.ended {
		return
	}
	if w.status == 0 {
		w.status = http.StatusInternalServerError
	}
	w.ended = true
	w.part(false)
}

func (w *callWriter) part(more bool) {
	a := frame.Answer{Body: w.body, More: more}
	if !w.begun {
		a.Status, a.Media = w.status, w.header.Get("Content-Type")
	}
	w.begun = true
	ss := w.r.ss
	b := frame.Buffer()
	*b = frame.AppendReply(*b, &a)
	ss.s.metrics.counted(frame.Reply)
	w.body = w.body[:0]
	if !more {
		if !w.r.send(b, 0, nil) && w.err == nil {
			w.err = frame.ErrOutboxClosed
		}
		return
	}
	defer frame.Free(b)
	_ = ss.out.Wait(maxUnsent) // Send says the same
	if _, err := ss.out.Send(w.r.id, *b, 0, nil); err != nil && w.err == nil {
		w.err = err
	}
}
