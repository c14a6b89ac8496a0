package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestPublishCopiesAndIdentifies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		m := &Message{Body: []byte("x"), Headers: Headers{"n": 1}}
		span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
		ctx := trace.ContextWithSpanContext(t.Context(), span)
		if _, err := b.Publish(ctx, Route{Key: "q"}, m, m); err != nil {
			t.Fatal(err)
		}
		if m.ID != "" || len(m.Headers) != 1 || m.Headers["n"] != 1 {
			t.Errorf("the caller's message was changed: %+v", m)
		}
		p := c.published
		if len(p) != 2 || len(p[0].Message.ID) != 32 || p[0].Message.ID == p[1].Message.ID || !p[0].Mandatory {
			t.Fatalf("published %+v", p)
		}
		if h := p[0].Message.Headers; h["n"] != int64(1) || !strings.HasPrefix(fmt.Sprint(h[HeaderTraceParent]), "00-01") {
			t.Errorf("headers %v", h)
		}
		got := trace.SpanContextFromContext(extractTrace(context.Background(), p[0].Message.Headers))
		if got.TraceID() != span.TraceID() || !got.IsRemote() {
			t.Errorf("extracted %v", got)
		}
	})
}

func TestTraceNeverExceedsTheLimits(t *testing.T) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	h := Headers{}
	for i := range driver.MaxHeaders {
		h[fmt.Sprint(i)] = true
	}
	if got := injectTrace(trace.ContextWithSpanContext(t.Context(), span), h); len(got) != driver.MaxHeaders {
		t.Errorf("a full message got %d headers", len(got))
	}
}

func TestPublishRetriesUnavailableOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		calls := 0
		c.onPublish = func(context.Context, []driver.Publishing) error {
			if calls++; calls < 4 {
				return ErrUnavailable
			}
			return nil
		}
		if _, err := b.Publish(t.Context(), Route{Key: "q"}, msg("x")); err != nil || calls != 4 {
			t.Errorf("%d calls, %v", calls, err)
		}
		calls = 0
		c.onPublish = func(context.Context, []driver.Publishing) error { calls++; return ErrUnknown }
		_, err := b.Publish(t.Context(), Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrUnknown)
		if calls != 1 {
			t.Errorf("an unknown outcome was tried %d times", calls)
		}
		c.onPublish = func(context.Context, []driver.Publishing) error { return ErrUnavailable }
		began := time.Now()
		_, err = b.Publish(t.Context(), Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrUnavailable)
		if took := time.Since(began); took < 20*time.Second || took > 30*time.Second {
			t.Errorf("gave up after %v, want RetryFor", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.Publish(ctx, Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrUnavailable)
		wantIs(t, err, context.DeadlineExceeded)
	})
}

// A call that hangs until its context ends has an unknown outcome.
func TestPublishBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.onPublish = func(ctx context.Context, _ []driver.Publishing) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Publish(ctx, Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrUnknown)
		wantIs(t, err, context.DeadlineExceeded)
	})
}

func TestPublishChopsAndJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		ms := make([]*Message, 2500)
		for i := range ms {
			ms[i] = msg("x")
		}
		rs, err := b.Publish(t.Context(), Route{Key: "q"}, ms...)
		if err != nil || len(rs) != 2500 || fmt.Sprint(c.batches) != "[1000 1000 500]" {
			t.Errorf("%d receipts in %v, %v", len(rs), c.batches, err)
		}
		c.onPublish = func(context.Context, []driver.Publishing) error {
			if len(c.batches) == 4 {
				return ErrUnknown
			}
			return nil
		}
		rs, err = b.Publish(t.Context(), Route{Key: "q"}, ms...)
		wantIs(t, err, ErrUnknown)
		if rs[0].Err != nil {
			t.Error("the first batch was published")
		}
		wantIs(t, rs[1000].Err, ErrUnknown)
		wantIs(t, rs[2000].Err, ErrUnavailable) // never sent
		c.onPublish = nil
		_, err = b.Publish(t.Context(), Route{Key: "nowhere"}, msg("x"))
		wantIs(t, err, ErrUnroutable)
		n := len(c.published)
		rs, err = b.Publish(t.Context(), Route{Key: "q"}, msg("x"), &Message{Priority: 10})
		wantIs(t, err, ErrInvalid)
		if rs != nil || len(c.published) != n {
			t.Error("an invalid message did not stop the others")
		}
	})
}

func TestBatchLenByBytes(t *testing.T) {
	big := &Message{Body: make([]byte, publishBatchBytes/2+1)}
	ps := []driver.Publishing{{Message: big}, {Message: big}}
	if n := batchLen(ps); n != 1 {
		t.Errorf("took %d", n)
	}
	if n := batchLen(ps[:1]); n != 1 {
		t.Errorf("took %d", n)
	}
}

func TestPublisherPipelinesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		gate := make(chan struct{})
		c.onPublish = func(context.Context, []driver.Publishing) error { <-gate; return nil }
		p := b.Publisher(&PublisherOptions{Window: 10, MaxBatch: 4})
		var pending []*Pending
		for i := range 10 {
			pd, err := p.Send(t.Context(), Route{Key: "q"}, msg(fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, pd)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Send(ctx, Route{Key: "q"}, msg("no room"))
		wantIs(t, err, context.DeadlineExceeded)
		close(gate)
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, pd := range pending {
			if r, err := pd.Receipt(t.Context()); err != nil || r.Queues != 1 {
				t.Errorf("receipt %d: %+v, %v", i, r, err)
			}
			if got := string(c.published[i].Message.Body); got != fmt.Sprint(i) {
				t.Errorf("message %d is %s", i, got)
			}
		}
		if len(c.published) != 10 {
			t.Errorf("published %d", len(c.published))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		_, err = p.Send(t.Context(), Route{Key: "q"}, msg("late"))
		wantIs(t, err, ErrClosed)
	})
}

func TestPublisherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		p := b.Publisher(&PublisherOptions{Timeout: 5 * time.Second})
		pd, err := p.Send(t.Context(), Route{Key: "nowhere"}, msg("x"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pd.Receipt(t.Context())
		wantIs(t, err, ErrUnroutable)
		wantIs(t, p.Flush(t.Context()), ErrUnroutable)
		if err := p.Flush(t.Context()); err != nil {
			t.Errorf("a failure is reported twice: %v", err)
		}
		c.onPublish = func(ctx context.Context, _ []driver.Publishing) error { <-ctx.Done(); return ctx.Err() }
		hung, _ := p.Send(t.Context(), Route{Key: "q"}, msg("black hole"))
		began := time.Now()
		wantIs(t, p.Close(), ErrUnknown)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("Close took %v", took)
		}
		_, err = hung.Receipt(t.Context())
		wantIs(t, err, ErrUnknown)
	})
}
