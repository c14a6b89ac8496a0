package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// missedBeats is how many heartbeats a watch does without before it counts
// the daemon as lost.
const missedBeats = 3

// SetValue implements lockdriver.Conn.
func (c *lockConn) SetValue(ctx context.Context, ref lockdriver.Ref, value []byte) error {
	if err := lockdriver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	return c.call(ctx, request{method: http.MethodPost, path: "/v1/locks/value"}, wire.ValueRequest{LeaseRef: leaseRef(ref), Value: value}, nil)
}

// watcher implements lockdriver.Watcher on a stream of Server-Sent Events. Its
// goroutine reads on only when Next has taken what was read: a slow caller
// slows the daemon down, and not the other way round.
type watcher struct {
	c      *lockConn
	ctx    context.Context
	cancel context.CancelFunc
	beat   *time.Timer // cancels when nothing has come for too long

	events chan lockdriver.Event
	done   chan struct{} // the goroutine has ended
	err    error         // why; set before done is closed
}

// Watch implements lockdriver.Conn. It has an HTTP connection of its own: the
// stream does not end by itself.
func (c *lockConn) Watch(ctx context.Context, r *lockdriver.WatchRequest) (lockdriver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if !c.caps.Watch {
		return nil, fmt.Errorf("watching locks: %w", lease.ErrUnsupported)
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	w := &watcher{c: c, events: make(chan lockdriver.Event), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	w.beat = time.AfterFunc(c.c.timeout, w.cancel)
	stop := context.AfterFunc(ctx, w.cancel)
	body, err := w.open(r)
	if err == nil && !stop() {
		body.Close()
		err = fmt.Errorf("%w: %w", lease.ErrUnavailable, ctx.Err())
	}
	if err != nil {
		stop()
		w.end(err)
		return nil, err
	}
	go func() {
		defer body.Close()
		w.end(w.read(bufio.NewReaderSize(body, 64<<10)))
	}()
	return w, nil
}

// open sends the request and returns the body of the answer.
func (w *watcher) open(r *lockdriver.WatchRequest) (io.ReadCloser, error) {
	rq := request{method: http.MethodGet, path: "/v1/locks/watch", reads: true}
	target := w.c.c.base + rq.path
	if q := listQuery(r.Name, r.Prefix, "", 0); len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(w.ctx, rq.method, target, http.NoBody)
	if err != nil {
		return nil, lease.Invalidf("url", "cannot be called: %v", err)
	}
	req.Header = w.c.c.header()
	resp, err := w.c.c.http.Do(req)
	if err != nil {
		return nil, w.c.lost(w.ctx, rq, true, unwrapURL(err))
	}
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(media, "text/event-stream") {
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxRequestBytes))
		if err != nil {
			return nil, w.c.lost(w.ctx, rq, true, err)
		}
		return nil, w.c.answer(w.ctx, rq, resp.StatusCode, media, b, nil)
	}
	return resp.Body, nil
}

// end says why there will be no more events.
func (w *watcher) end(err error) {
	w.beat.Stop()
	w.cancel()
	w.err = err
	close(w.done)
	w.c.calls.Done()
}

// read hands on the events of the stream until it ends.
func (w *watcher) read(stream *bufio.Reader) error {
	var kind string
	var data []byte
	for {
		w.beat.Reset(missedBeats * wire.WatchHeartbeat)
		line, err := readLine(stream)
		if err != nil {
			return w.c.lost(w.ctx, request{reads: true}, true, err)
		}
		switch field, value, _ := strings.Cut(line, ":"); field {
		case "event":
			kind = strings.TrimPrefix(value, " ")
		case "data":
			data = []byte(strings.TrimPrefix(value, " "))
		case "":
			if value != "" || kind == "" { // a comment, or the end of one
				continue
			}
			if err := w.handOn(kind, data); err != nil {
				return err
			}
			kind, data = "", nil
		}
	}
}

func (w *watcher) handOn(kind string, data []byte) error {
	if kind == wire.EventProblem {
		p := &wire.Problem{}
		if err := json.Unmarshal(data, p); err != nil || p.Code == "" {
			p = wire.NewProblem(wire.CodeUnavailable, "", "the watch has ended")
		}
		if p.Code == wire.CodeClosed { // the daemon's backend, not this client
			p = wire.NewProblem(wire.CodeUnavailable, "", p.Detail)
		}
		return &problemError{error: p.Err(), problem: p}
	}
	e, err := wire.DecodeEvent(kind, data)
	if err != nil || e == nil {
		return err
	}
	w.beat.Stop() // the caller may take its time
	select {
	case w.events <- *e:
		return nil
	case <-w.ctx.Done():
		return w.c.lost(w.ctx, request{reads: true}, true, w.ctx.Err())
	}
}

// readLine returns a line without its end.
func readLine(stream *bufio.Reader) (string, error) {
	var long []byte
	for {
		part, err := stream.ReadSlice('\n')
		if err == nil && long == nil {
			return strings.TrimRight(string(part), "\r\n"), nil
		}
		long = append(long, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(long), "\r\n"), nil
		case err != bufio.ErrBufferFull: //nolint:errorlint // ReadSlice returns it as it is
			return "", err
		case len(long) > wire.MaxEventBytes:
			return "", fmt.Errorf("an event of more than %d bytes", wire.MaxEventBytes)
		}
	}
}

// Next implements lockdriver.Watcher.
func (w *watcher) Next(ctx context.Context) ([]lockdriver.Event, error) {
	select {
	case e := <-w.events:
		return []lockdriver.Event{e}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.done:
		return nil, w.err
	}
}

// Close implements lockdriver.Watcher.
func (w *watcher) Close() error {
	w.cancel()
	<-w.done
	return nil
}
