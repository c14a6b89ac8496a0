package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// ReadStream polls until there is a message or r.Wait has passed.
func (c *queueConn) ReadStream(ctx context.Context, r *queuedriver.StreamRequest) (*queuedriver.StreamBatch, error) {
	own := *r
	if err := own.Validate(); err != nil {
		return nil, err
	}
	began := time.Now()
	for {
		one := own
		one.Wait = max(0, min(own.Wait-time.Since(began), c.c.poll))
		b, err := c.readStream(ctx, &one)
		if err != nil || len(b.Messages) > 0 || time.Since(began) >= own.Wait {
			return b, err
		}
		if b.Next != 0 { // nothing between two polls is passed over
			own.From, own.Offset, own.Time = queuedriver.FromOffset, b.Next, time.Time{}
		}
	}
}

// readStream is one request.
func (c *queueConn) readStream(ctx context.Context, r *queuedriver.StreamRequest) (*queuedriver.StreamBatch, error) {
	query := url.Values{
		"queue": {r.Queue}, "limit": {strconv.Itoa(r.Max)}, "max_bytes": {strconv.Itoa(r.MaxBytes)},
		"wait_ms": {strconv.FormatInt(int64(wire.Ceil(r.Wait)), 10)},
	}
	switch r.From {
	case queuedriver.FromOffset:
		query.Set("offset", strconv.FormatUint(r.Offset, 10))
	case queuedriver.FromTime:
		query.Set("time", r.Time.UTC().Format(time.RFC3339Nano))
	case queuedriver.FromFirst, queuedriver.FromLast, queuedriver.FromNext:
		query.Set("from", string(r.From))
	}
	var out wire.StreamReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/stream", query: query, wait: r.Wait, reads: true}, nil, &out); err != nil {
		return nil, err
	}
	b, err := out.Driver()
	if err != nil {
		return nil, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnavailable, err)
	}
	return b, nil
}

func (c *queueConn) SaveOffset(ctx context.Context, stream, consumer string, offset uint64) error {
	if err := queuedriver.ValidateOffset(stream, consumer, offset); err != nil {
		return err
	}
	in := wire.SaveOffsetRequest{Queue: stream, Consumer: consumer, Offset: wire.Number(offset)}
	return c.call(ctx, request{method: http.MethodPut, path: "/v1/offsets"}, in, nil)
}

func (c *queueConn) Offsets(ctx context.Context, stream, consumer string) ([]queuedriver.Offset, error) {
	if err := queuedriver.ValidateOffsets(stream, consumer); err != nil {
		return nil, err
	}
	query := url.Values{"queue": {stream}}
	if consumer != "" {
		query.Set("consumer", consumer)
	}
	var out wire.OffsetsReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/offsets", query: query, reads: true}, nil, &out); err != nil {
		return nil, err
	}
	var offsets []queuedriver.Offset
	for _, o := range out.Offsets {
		offsets = append(offsets, queuedriver.Offset{Consumer: o.Consumer, Offset: o.Offset})
	}
	return offsets, nil
}

func (c *queueConn) DeleteOffset(ctx context.Context, stream, consumer string) error {
	if err := queuedriver.ValidateOffset(stream, consumer, 1); err != nil {
		return err
	}
	query := url.Values{"queue": {stream}, "consumer": {consumer}}
	return c.call(ctx, request{method: http.MethodDelete, path: "/v1/offsets", query: query}, nil, nil)
}
