package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// maxPublish is how many bytes of JSON go into one request: half of what the
// daemon takes.
const maxPublish = wire.MaxPublishBytes / 2

type queueConn struct {
	*caller
	caps queuedriver.Caps
}

func (c *queueConn) Caps() queuedriver.Caps { return c.caps }

func (c *queueConn) Declare(ctx context.Context, t *queuedriver.Topology, dryRun bool) ([]queuedriver.Change, error) {
	r := request{method: http.MethodPut, path: "/v1/topology"}
	if dryRun {
		r.query, r.reads = url.Values{"dry_run": {"true"}}, true
	}
	// Checked here too: on the wire a duration past its limit by less than a
	// millisecond would be within it.
	whole := queuedriver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
	if err := whole.Validate(&c.caps); err != nil {
		return nil, err
	}
	var out wire.TopologyReply
	if err := c.call(ctx, r, wire.NewTopology(&whole), &out); err != nil {
		return nil, err
	}
	changes := make([]queuedriver.Change, len(out.Changes))
	for i, ch := range out.Changes {
		changes[i] = queuedriver.Change{Action: ch.Action, What: ch.What, Name: ch.Name}
	}
	return changes, nil
}

func (c *queueConn) Delete(ctx context.Context, r *queuedriver.DeleteRequest) error {
	req := request{method: http.MethodDelete, query: url.Values{}}
	parts := 0
	for _, given := range []bool{r.Exchange != "", r.Queue != "", r.Binding != nil} {
		if given {
			parts++
		}
	}
	if parts > 1 {
		return lease.Invalidf("delete", "must name one of exchange, queue and binding, names %d", parts)
	}
	switch {
	case r.Binding != nil:
		req.path = "/v1/bindings"
		req.query.Set("exchange", r.Binding.Exchange)
		if r.Binding.ToExchange != "" {
			req.query.Set("to_exchange", r.Binding.ToExchange)
		}
		req.query.Set("queue", r.Binding.Queue)
		req.query.Set("key", r.Binding.Key)
		if len(r.Binding.Args) > 0 {
			args, err := json.Marshal(wire.Headers(r.Binding.Args.Normalize()))
			if err != nil {
				return lease.Invalidf("args", "cannot be sent as JSON: %v", err)
			}
			req.query.Set("args", string(args))
		}
	case r.Exchange != "":
		req.path = "/v1/exchanges"
		req.query.Set("name", r.Exchange)
		if r.IfUnused {
			req.query.Set("if_unused", "true")
		}
	default:
		req.path = "/v1/queues"
		req.query.Set("name", r.Queue)
		if r.IfEmpty {
			req.query.Set("if_empty", "true")
		}
	}
	return c.call(ctx, req, nil, nil)
}

func (c *queueConn) Topology(ctx context.Context) (*queuedriver.Topology, error) {
	var out wire.Topology
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/topology", reads: true}, nil, &out); err != nil {
		return nil, err
	}
	return out.Driver(), nil
}

// Publish sends one request, or several if the batch is too large for one.
func (c *queueConn) Publish(ctx context.Context, ps []queuedriver.Publishing) ([]queuedriver.Receipt, error) {
	bodies := 0
	for i := range ps {
		if ps[i].Message != nil {
			bodies += len(ps[i].Message.Body)
		}
	}
	if x, err := c.over(ctx, 0, bodies); x != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return c.sessionPublish(x, ps)
	}
	parts, err := splitBatch(ps)
	if err != nil {
		return nil, err
	}
	var receipts []queuedriver.Receipt
	for _, part := range parts {
		got, err := c.publish(ctx, part)
		if err != nil {
			if len(parts) == 1 {
				return nil, err
			}
			for range part {
				got = append(got, queuedriver.Receipt{Err: err})
			}
		}
		receipts = append(receipts, got...)
	}
	return receipts, nil
}

// splitBatch encodes a batch and splits it into what one request can carry.
func splitBatch(ps []queuedriver.Publishing) ([][]json.RawMessage, error) {
	if len(ps) > queuedriver.MaxBatch {
		return nil, lease.Invalidf("messages", "must be at most %d, are %d", queuedriver.MaxBatch, len(ps))
	}
	var parts [][]json.RawMessage
	var part []json.RawMessage
	size, bodies := 0, 0 // of the part, of all
	for i := range ps {
		b, err := wire.NewPublishing(&ps[i])
		if err != nil {
			return nil, err
		}
		if bodies += len(ps[i].Message.Body); bodies > queuedriver.MaxBatchBytes {
			return nil, lease.Invalidf("messages", "must have bodies of at most %d bytes together", queuedriver.MaxBatchBytes)
		}
		if len(part) > 0 && size+len(b) > maxPublish {
			parts, part, size = append(parts, part), nil, 0
		}
		part = append(part, b)
		size += len(b)
	}
	if part != nil {
		parts = append(parts, part)
	}
	return parts, nil
}

func (c *queueConn) publish(ctx context.Context, part []json.RawMessage) ([]queuedriver.Receipt, error) {
	size := 32
	for _, b := range part {
		size += len(b) + 1
	}
	body := append(make([]byte, 0, size), `{"messages":[`...)
	for i, b := range part {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, b...)
	}
	body = append(body, `]}`...)
	var out wire.PublishReply
	if err := c.send(ctx, request{method: http.MethodPost, path: "/v1/publish"}, body, &out); err != nil {
		return nil, err
	}
	if len(out.Receipts) != len(part) {
		return nil, wrongCount(len(out.Receipts), len(part))
	}
	receipts := make([]queuedriver.Receipt, len(part))
	for i := range out.Receipts {
		receipts[i] = out.Receipts[i].Driver()
	}
	return receipts, nil
}

func (c *queueConn) Settle(ctx context.Context, ss []queuedriver.Settlement) ([]queuedriver.Outcome, error) {
	if len(ss) == 0 {
		return nil, nil
	}
	for i := range ss { // a verb that does not exist has no place in the request
		if err := ss[i].Validate(&c.caps); err != nil {
			return nil, err
		}
	}
	if len(ss) <= queuedriver.MaxBatch {
		x, err := c.over(ctx, 0, 0)
		if err != nil {
			return nil, err
		}
		if x != nil {
			return c.sessionSettle(x, ss)
		}
	}
	in, order := wire.NewSettleRequest(ss)
	var out wire.SettleReply
	if err := c.call(ctx, request{method: http.MethodPost, path: "/v1/settle"}, in, &out); err != nil {
		return nil, err
	}
	if len(out.Outcomes) != len(ss) {
		return nil, wrongCount(len(out.Outcomes), len(ss))
	}
	outcomes := make([]queuedriver.Outcome, len(ss))
	for i, o := range out.Outcomes {
		outcomes[order[i]] = queuedriver.Outcome{Err: o.Error.Err(), TTL: o.Lease.Duration(), DeadLettered: o.DeadLettered}
	}
	return outcomes, nil
}

func (c *queueConn) Detach(ctx context.Context, queue, consumer string) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v1/detach"}, wire.DetachRequest{Queue: queue, Consumer: consumer}, nil)
}

func (c *queueConn) CancelScheduled(ctx context.Context, queue, id string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: "/v1/scheduled", query: url.Values{"queue": {queue}, "id": {id}}}, nil, nil)
}

func (c *queueConn) Stats(ctx context.Context, r *queuedriver.StatsRequest) ([]queuedriver.QueueStats, error) {
	var out wire.QueuesReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/queues", query: listQuery(r.Queue, r.Prefix, r.After, r.Max), reads: true}, nil, &out); err != nil {
		return nil, err
	}
	stats := make([]queuedriver.QueueStats, len(out.Queues))
	for i := range out.Queues {
		stats[i] = out.Queues[i].Driver()
	}
	return stats, nil
}

func (c *queueConn) Peek(ctx context.Context, r *queuedriver.PeekRequest) ([]queuedriver.Peeked, error) {
	query := url.Values{"queue": {r.Queue}, "after": {strconv.FormatUint(r.After, 10)}}
	if r.Max != 0 {
		query.Set("limit", strconv.Itoa(r.Max))
	}
	var out wire.MessagesReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/messages", query: query, reads: true}, nil, &out); err != nil {
		return nil, err
	}
	peeked := make([]queuedriver.Peeked, len(out.Messages))
	for i := range out.Messages {
		var err error
		if peeked[i], err = out.Messages[i].Driver(); err != nil {
			return nil, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnavailable, err)
		}
	}
	return peeked, nil
}

func (c *queueConn) Purge(ctx context.Context, queue string) (int64, error) {
	var out wire.PurgeReply
	err := c.call(ctx, request{method: http.MethodPost, path: "/v1/purge"}, wire.PurgeRequest{Queue: queue}, &out)
	return out.Purged, err
}

func (c *queueConn) Redrive(ctx context.Context, r *queuedriver.RedriveRequest) (int64, error) {
	in := wire.RedriveRequest{Queue: r.Queue, Max: r.Max}
	if r.To != nil {
		in.To = &wire.Route{Exchange: r.To.Exchange, Key: r.To.Key}
	}
	var out wire.RedriveReply
	err := c.call(ctx, request{method: http.MethodPost, path: "/v1/redrive"}, in, &out)
	return out.Redriven, err
}
