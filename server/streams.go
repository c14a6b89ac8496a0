package server

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

var streamParams = []param{
	{"queue", text, "the stream"},
	{"offset", text, "where to begin: at this offset"},
	{"time", instant, "or at the first message stored then or later"},
	{"from", text, "or at first, the oldest message that is kept; last, the newest; next, what comes"},
	{"limit", number, "at most so many, 1 to 1000; 100 without it"},
	{"max_bytes", number, "bodies of at most so many bytes together, though one message is always returned"},
	{"wait_ms", number, "how long to wait if there is none"},
}

func streamRoutes() []route {
	const get, put, del = http.MethodGet, http.MethodPut, http.MethodDelete
	return []route{
		{method: get, path: "/v1/stream", op: "readStream", needs: needsQueues, params: streamParams, required: "queue", out: wire.StreamReply{}, serve: serveStream,
			summary: "Read messages of a stream from a place on, waiting up to wait_ms for the first. Reading changes nothing."},
		{method: put, path: "/v1/offsets", op: "saveOffset", needs: needsQueues, in: wire.SaveOffsetRequest{}, serve: serveSaveOffset,
			summary: "Remember how far a consumer of a stream has come."},
		{method: get, path: "/v1/offsets", op: "listOffsets", needs: needsQueues, required: "queue", out: wire.OffsetsReply{}, serve: serveOffsets,
			params:  []param{{"queue", text, "the stream"}, {"consumer", text, "this one alone"}},
			summary: "How far the consumers of a stream have come."},
		{method: del, path: "/v1/offsets", op: "deleteOffset", needs: needsQueues, required: "queue", serve: serveDeleteOffset,
			params:  []param{{"queue", text, "the stream"}, {"consumer", text, "whom to forget"}},
			summary: "Forget a consumer of a stream."},
	}
}

// streamRequest reads the query of GET /v1/stream.
func streamRequest(c *call) (*queuedriver.StreamRequest, error) {
	v := values{Values: c.query}
	req := &queuedriver.StreamRequest{
		Queue: v.Get("queue"), Offset: v.uint64("offset"),
		Max:      orDefault(v.int("limit", queuedriver.MaxReceive), queuedriver.DefaultList),
		MaxBytes: v.int("max_bytes", queuedriver.MaxReceiveBytes),
		Wait:     wire.Millis(v.int64("wait_ms", queuedriver.MaxWait.Milliseconds())).Duration(),
	}
	if t := v.time("time"); t != nil {
		req.Time = t.UTC()
	}
	if v.err != nil {
		return nil, v.err
	}
	starts := 0
	for _, name := range []string{"offset", "time", "from"} {
		if v.Has(name) {
			starts++
		}
	}
	if starts != 1 {
		return nil, lease.Invalidf("from", "must be given, or offset, or time: one of them")
	}
	switch from := queuedriver.From(v.Get("from")); {
	case v.Has("offset"):
		req.From = queuedriver.FromOffset
	case v.Has("time"):
		req.From = queuedriver.FromTime
	case from == queuedriver.FromFirst, from == queuedriver.FromLast, from == queuedriver.FromNext:
		req.From = from
	default:
		return nil, lease.Invalidf("from", "must be first, last or next, is %q", from)
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	return req, nil
}

// serveStream reads a stream: what is there, and waits if that is nothing.
func serveStream(c *call) error {
	req, err := streamRequest(c)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	if err := c.reserve(ctx, int64(max(req.MaxBytes, queuedriver.MaxBody))); err != nil {
		return err
	}
	first := *req
	first.Wait = 0
	b, err := c.s.cfg.Queues.ReadStream(ctx, &first)
	if err != nil {
		return err
	}
	c.keep(streamed(b))
	if left := req.Wait - time.Since(c.received); len(b.Messages) == 0 && left > 0 {
		req.Wait, req.MaxBytes = left, min(req.MaxBytes, pollBytes)
		if b, err = c.followStream(ctx, req, b); err != nil {
			return err
		}
	}
	if c.gone() {
		return goneError{ctx.Err()}
	}
	return c.reply(wire.NewStreamReply(b))
}

// followStream waits behind what a read has found.
func (c *call) followStream(ctx context.Context, req *queuedriver.StreamRequest, found *queuedriver.StreamBatch) (*queuedriver.StreamBatch, error) {
	if found.Next != 0 { // nothing between the two reads is passed over
		req.From, req.Offset, req.Time = queuedriver.FromOffset, found.Next, time.Time{}
	}
	waiting, done, err := c.wait(req.Wait + time.Second) // the driver ends it: this is the rear guard
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := c.s.cfg.Queues.ReadStream(waiting, req)
	if err != nil && waiting.Err() != nil && isEnded(err) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return b, c.reserve(ctx, streamed(b))
}

func streamed(b *queuedriver.StreamBatch) int64 {
	n := 0
	for i := range b.Messages {
		n += len(b.Messages[i].Message.Body)
	}
	return int64(n)
}

func serveSaveOffset(c *call) error {
	var in wire.SaveOffsetRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := queuedriver.ValidateOffset(in.Queue, in.Consumer, uint64(in.Offset)); err != nil {
		return err
	}
	if err := c.s.cfg.Queues.SaveOffset(c.r.Context(), in.Queue, in.Consumer, uint64(in.Offset)); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveOffsets(c *call) error {
	queue, consumer := c.query.Get("queue"), c.query.Get("consumer")
	if err := queuedriver.ValidateOffsets(queue, consumer); err != nil {
		return err
	}
	offsets, err := c.s.cfg.Queues.Offsets(c.r.Context(), queue, consumer)
	if err != nil {
		return err
	}
	out := wire.OffsetsReply{Offsets: make([]wire.Offset, len(offsets))}
	for i, o := range offsets {
		out.Offsets[i] = wire.Offset{Consumer: o.Consumer, Offset: o.Offset}
	}
	return c.reply(&out)
}

func serveDeleteOffset(c *call) error {
	queue, consumer := c.query.Get("queue"), c.query.Get("consumer")
	if err := queuedriver.ValidateOffset(queue, consumer, 1); err != nil {
		return err
	}
	if err := c.s.cfg.Queues.DeleteOffset(c.r.Context(), queue, consumer); err != nil {
		return err
	}
	return c.reply(nil)
}
