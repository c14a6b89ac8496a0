package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// maxWatch bounds one request that watches: its client asks again.
const maxWatch = 24 * time.Hour

func serveValue(c *call) error {
	var in wire.ValueRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	ref := lockdriver.Ref{Name: in.Name, Holder: in.Holder, Token: in.Token}
	if err := validRefs([]lockdriver.Ref{ref}, true, nil); err != nil {
		return err
	}
	if err := c.s.cfg.Locks.SetValue(c.r.Context(), ref, in.Value); err != nil {
		return err
	}
	return c.reply(nil)
}

// serveWatch sends what becomes of names until the client goes, the server
// drains, or the driver's watch ends. It counts as one that waits. A client
// that does not take what it is sent holds up the driver's watch, which keeps
// no more than it says, and is cut off by the write deadline.
func serveWatch(c *call) error {
	req := &lockdriver.WatchRequest{Name: c.query.Get("name"), Prefix: c.query.Get("prefix")}
	if err := req.Validate(); err != nil {
		return err
	}
	ctx, done, err := c.wait(maxWatch)
	if err != nil {
		return err
	}
	defer done()
	w, err := c.s.cfg.Locks.Watch(ctx, req)
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // there is nobody to tell
	c.s.metrics.watches.Inc()
	defer c.s.metrics.watches.Dec()
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.code, c.status = "ok", http.StatusOK
	c.w.WriteHeader(c.status)
	for {
		b, err := c.nextEvents(ctx, w)
		if err == nil {
			err = c.push(b)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// nextEvents returns what is to be sent next: events, or a comment if there
// is none for a while. An error is a problem that the client is told, too.
func (c *call) nextEvents(ctx context.Context, w lockdriver.Watcher) ([]byte, error) {
	beat, cancel := context.WithTimeout(ctx, wire.WatchHeartbeat)
	defer cancel()
	events, err := w.Next(beat)
	var b bytes.Buffer
	switch {
	case err == nil:
	case beat.Err() != nil:
		return []byte(": still here\n\n"), nil
	default:
		if p, e := wire.Encode(wire.ProblemOf(err)); e == nil {
			fmt.Fprintf(&b, "event: %s\ndata: %s\n", wire.EventProblem, p)
			_ = c.push(b.Bytes()) // it is told the same by the end
		}
		return nil, err
	}
	for i := range events {
		data, err := wire.EncodeEvent(&events[i])
		if err != nil {
			return nil, fmt.Errorf("an event: %w: %w", lease.ErrUnavailable, err)
		}
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", events[i].Kind, data)
	}
	return b.Bytes(), nil
}

// push sends a part of an answer that goes on.
func (c *call) push(b []byte) error {
	c.deadline(c.control.SetWriteDeadline, time.Now().Add(c.s.allowance(c.s.cfg.WriteTimeout, int64(len(b)))))
	if _, err := c.w.Write(b); err != nil {
		return goneError{err}
	}
	if err := c.control.Flush(); err != nil {
		return goneError{err}
	}
	return nil
}
