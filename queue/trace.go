package queue

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// The W3C trace context travels in two headers, as
// https://www.w3.org/TR/trace-context/ has them for HTTP.
var traceContext propagation.TraceContext

// headerCarrier lets the propagator read and write headers.
type headerCarrier Headers

func (h headerCarrier) Get(key string) string {
	s, _ := h[key].(string)
	return s
}

func (h headerCarrier) Set(key, value string) { h[key] = value }

func (h headerCarrier) Keys() []string { return Headers(h).Keys() }

// injectTrace returns h with the trace context of ctx, or h itself if there
// is none, h has one already, or it has no room: the trace must not make a
// message that is within the limits exceed them.
func injectTrace(ctx context.Context, h Headers) Headers {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return h
	}
	if _, has := h[driver.HeaderTraceParent]; has {
		return h
	}
	with := make(Headers, len(h)+2)
	maps.Copy(with, h)
	traceContext.Inject(ctx, headerCarrier(with))
	if with.Validate("message.headers") != nil {
		return h
	}
	return with
}

// extractTrace returns ctx with the remote trace context of h, if it has one.
func extractTrace(ctx context.Context, h Headers) context.Context {
	if _, has := h[driver.HeaderTraceParent]; !has {
		return ctx
	}
	return traceContext.Extract(ctx, headerCarrier(h))
}
