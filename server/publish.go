package server

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// headerPrefix begins the names of HTTP headers that become headers of a raw
// message: in lower case, since HTTP does not keep the case.
const headerPrefix = "Lockkeeper-Header-"

// publishParams are the query parameters of a raw publish.
var publishParams = []param{
	{"exchange", text, "where to publish; empty is the default exchange. This or key makes the body one raw message"},
	{"key", text, "routing key; with the default exchange the name of the queue"},
	{"mandatory", flag, "false: a message that matches no queue is dropped, and no error"},
	{"id", text, "identifies the message for dedup"},
	{"order_key", text, "messages with one key are handled one after another, in order"},
	{"headers", table, "headers as a JSON object; Lockkeeper-Header-NAME sets a single one to a string"},
	{"priority", number, "0 to 9"},
	{"ttl_ms", number, "dropped or dead-lettered when older"},
	{"delay_ms", number, "not delivered before"},
	{"not_before", instant, "not delivered before, by the server's clock"},
	{"content_type", text, "instead of the request's Content-Type"},
	{"content_encoding", text, "instead of the request's Content-Encoding; not interpreted"},
	{"correlation_id", text, "not interpreted"},
	{"reply_to", text, "not interpreted"},
	{"type", text, "not interpreted"},
	{"app_id", text, "not interpreted"},
	{"user_id", text, "not interpreted"},
	{"timestamp", instant, "not interpreted"},
}

// servePublish publishes one raw body if the query has exchange or key, and
// otherwise a batch, as JSON or as NDJSON by the Content-Type.
func servePublish(c *call) error {
	if c.query.Has("exchange") || c.query.Has("key") {
		return c.publishRaw()
	}
	for name := range c.query {
		return wire.NewProblem(wire.CodeInvalid, name, "is for a raw message: give exchange or key too, or put it into the batch")
	}
	if err := c.uncoded(); err != nil {
		return err
	}
	b, err := c.read(wire.MaxPublishBytes)
	if err != nil {
		return err
	}
	var batch []wire.Publishing
	if media, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); media == "application/x-ndjson" {
		batch, err = decodeLines(b)
	} else {
		var in wire.PublishRequest
		err = wire.Decode(b, &in)
		batch = in.Messages
	}
	if err != nil {
		return err
	}
	ps, err := publishings(batch)
	if err != nil {
		return err
	}
	receipts, err := c.publish(ps)
	if err != nil {
		return err
	}
	out := wire.PublishReply{Receipts: make([]wire.Receipt, len(receipts))}
	for i := range receipts {
		out.Receipts[i] = wire.NewReceipt(&receipts[i])
	}
	return c.reply(&out)
}

// decodeLines reads one message a line; empty lines are passed over.
func decodeLines(b []byte) ([]wire.Publishing, error) {
	var out []wire.Publishing
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(out) == queuedriver.MaxBatch {
			return nil, lease.Invalidf("messages", "must be 1 to %d, are more", queuedriver.MaxBatch)
		}
		var p wire.Publishing
		if err := wire.Decode(line, &p); err != nil {
			bad := *wire.ProblemOf(err)
			return nil, wire.NewProblem(bad.Code, fmt.Sprintf("line %d: %s", n, bad.Field), bad.Reason)
		}
		out = append(out, p)
	}
	return out, nil
}

// publishings validates a whole batch.
func publishings(batch []wire.Publishing) ([]queuedriver.Publishing, error) {
	if len(batch) == 0 || len(batch) > queuedriver.MaxBatch {
		return nil, lease.Invalidf("messages", "must be 1 to %d, are %d", queuedriver.MaxBatch, len(batch))
	}
	ps := make([]queuedriver.Publishing, len(batch))
	size := 0
	for i := range batch {
		var err error
		if ps[i], err = batch[i].Driver(wire.Indexed("messages", i)); err != nil {
			return nil, err
		}
		size += len(ps[i].Message.Body)
	}
	if size > queuedriver.MaxBatchBytes {
		return nil, wire.NewProblem(wire.CodeTooLarge, "messages", fmt.Sprintf("must have bodies of at most %d bytes together, have %d", queuedriver.MaxBatchBytes, size))
	}
	return ps, nil
}

func (c *call) publish(ps []queuedriver.Publishing) ([]queuedriver.Receipt, error) {
	receipts, err := c.queues().Publish(c.r.Context(), ps)
	if err != nil {
		return nil, err
	}
	if len(receipts) != len(ps) {
		return nil, fmt.Errorf("the driver returned %d receipts for %d messages: %w", len(receipts), len(ps), lease.ErrUnknown)
	}
	c.s.metrics.publishedAll(receipts)
	return receipts, nil
}

// publishRaw publishes the body as it is.
func (c *call) publishRaw() error {
	p, err := c.rawPublishing()
	if err != nil {
		return err
	}
	body, err := c.read(queuedriver.MaxBody)
	if err != nil {
		return err
	}
	p.BodyBase64 = &body
	d, err := p.Driver("")
	if err != nil {
		return err
	}
	receipts, err := c.publish([]queuedriver.Publishing{d})
	if err != nil {
		return err
	}
	if receipts[0].Err != nil {
		return receipts[0].Err
	}
	return c.reply(wire.NewReceipt(&receipts[0]))
}

// rawPublishing reads what goes with a raw body from the query and the HTTP
// headers.
func (c *call) rawPublishing() (*wire.Publishing, error) {
	v := values{Values: c.query}
	mandatory := v.bool("mandatory", true)
	priority := v.int("priority", queuedriver.MaxPriority)
	const most = int64(queuedriver.MaxDelay / 1e6)
	p := &wire.Publishing{
		Exchange: v.Get("exchange"), Key: v.Get("key"), Mandatory: &mandatory,
		Message: wire.Message{
			ID: v.Get("id"), OrderKey: v.Get("order_key"), Headers: v.headers("headers"), Priority: uint8(priority),
			TTL: wire.Millis(v.int64("ttl_ms", most)), Delay: wire.Millis(v.int64("delay_ms", most)), NotBefore: v.time("not_before"),
			ContentType: v.Get("content_type"), ContentEncoding: v.Get("content_encoding"),
			CorrelationID: v.Get("correlation_id"), ReplyTo: v.Get("reply_to"), Type: v.Get("type"),
			AppID: v.Get("app_id"), UserID: v.Get("user_id"), Timestamp: v.time("timestamp"),
		},
	}
	if v.err != nil {
		return nil, v.err
	}
	// curl sends this type for any --data; it says nothing about the body.
	if sent := c.r.Header.Get("Content-Type"); !v.Has("content_type") && !strings.HasPrefix(sent, "application/x-www-form-urlencoded") {
		p.ContentType = sent
	}
	if !v.Has("content_encoding") { // the body is kept as it came
		p.ContentEncoding = c.r.Header.Get("Content-Encoding")
	}
	return p, addHTTPHeaders(p, c.r.Header)
}

// addHTTPHeaders takes over Lockkeeper-Header-NAME and the W3C trace context.
func addHTTPHeaders(p *wire.Publishing, h http.Header) error {
	for name, vs := range h {
		key := strings.ToLower(name)
		if rest, ok := strings.CutPrefix(name, headerPrefix); ok {
			key = strings.ToLower(rest)
		} else if key != queuedriver.HeaderTraceParent && key != queuedriver.HeaderTraceState {
			continue
		}
		if _, twice := p.Headers[key]; twice || len(vs) > 1 {
			return wire.NewProblem(wire.CodeInvalid, "headers["+key+"]", "must not be given more than once")
		}
		if p.Headers == nil {
			p.Headers = wire.Headers{}
		}
		p.Headers[key] = vs[0]
	}
	return nil
}
