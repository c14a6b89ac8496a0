package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Bounds of a flow.
const (
	// flowBytes is how much may be in the queue, in bytes of bodies: the
	// publishers wait for the consumers then, so that what is measured is a
	// queue that keeps up, for all that are measured.
	flowBytes = 16 << 20
	flowLeast = 64                    // messages, of large ones
	flowRest  = 50 * time.Microsecond // of a publisher that waits
	// patience is how long what was published may take to be consumed.
	patience = 30 * time.Second
)

// courier is a queue of somebody's.
type courier interface {
	// publish sends body again and again while more says so, and returns when
	// all of it is confirmed.
	publish(ctx context.Context, body []byte, more func() bool) error
	// consume receives, calls each for every message, and acks it. When ctx
	// ends it returns, without an error, once its acks are taken.
	consume(ctx context.Context, each func()) error
}

// makeCourier opens a queue that is empty. pid is the process of its server.
type makeCourier func(t testing.TB, s *Servers) (c courier, pid int)

// flow counts the messages that go through a queue.
type flow struct {
	sent, acked atomic.Int64
	most        int64 // in the queue
	over        atomic.Bool
	empty       chan struct{} // all that was sent is consumed
}

// more is asked before each message.
func (f *flow) more() bool {
	for f.sent.Load()-f.acked.Load() >= f.most && !f.over.Load() {
		time.Sleep(flowRest) //nolint:forbidigo // an event for each ack would cost more than is measured
	}
	if f.over.Load() {
		return false
	}
	f.sent.Add(1)
	return true
}

// each is called for each message that was received.
func (f *flow) each() {
	if n := f.acked.Add(1); f.over.Load() && n == f.sent.Load() {
		select {
		case f.empty <- struct{}{}:
		default:
		}
	}
}

// runFlow sends messages through a queue for span, from several publishers to
// as many consumers at once, and measures until the last one is acked.
func runFlow(open makeCourier, size, consumers int) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, s *Servers, span time.Duration) Figures {
		t.Helper()
		c, pid := open(t, s)
		pass(t, c, time.Duration(warmup*float64(span)), size, consumers)
		resetPeakRSS(t, pid)
		n, took := pass(t, c, span, size, consumers)
		f := Figures{Rate: float64(n) / took.Seconds(), PeakRSS: peakRSS(t, pid)}
		if size == largeBody {
			f[MiBRate] = f[Rate]
			delete(f, Rate)
		}
		return f
	}
}

// pass is one pass of messages; without consumers they stay in the queue.
func pass(t testing.TB, c courier, span time.Duration, size, consumers int) (n int64, took time.Duration) {
	t.Helper()
	f := &flow{most: max(flowBytes/int64(size), flowLeast), empty: make(chan struct{}, 1)}
	if consumers == 0 {
		f.most = 1 << 62
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := randomBody(size)
	var sending, receiving sync.WaitGroup
	failed := make(chan error, publishers+consumers)
	began := time.Now()
	for range consumers {
		receiving.Go(func() {
			if err := c.consume(ctx, f.each); err != nil {
				failed <- err
			}
		})
	}
	for range publishers {
		sending.Go(func() {
			if err := c.publish(t.Context(), body, f.more); err != nil {
				failed <- err
			}
		})
	}
	select {
	case <-time.After(span):
	case err := <-failed:
		f.over.Store(true)
		t.Fatal(err)
	}
	f.over.Store(true)
	sending.Wait()
	n = f.sent.Load()
	for limit := time.After(patience); consumers > 0 && f.acked.Load() < n; {
		select {
		case <-f.empty: // or so it seemed while the last ones were counted
		case err := <-failed:
			t.Fatal(err)
		case <-limit:
			t.Fatalf("of %d messages %d were consumed within %v", n, f.acked.Load(), patience)
		}
	}
	cancel()
	receiving.Wait()
	took = time.Since(began)
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if consumers > 0 && f.acked.Load() != n {
		t.Fatalf("of %d messages %d were consumed", n, f.acked.Load())
	}
	return n, took
}

// randomBody is a body that cannot be compressed, the same in each run.
func randomBody(size int) []byte {
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body) // it never fails
	return body
}
