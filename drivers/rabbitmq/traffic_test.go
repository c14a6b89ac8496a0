package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// traffic is a publisher and a consumer of numbered messages, whose order is kept
// because the queue has a single active consumer.
type traffic struct {
	t     *testing.T
	name  string
	stop  chan struct{} // closed: no more numbers
	mu    sync.Mutex
	next  int         // number to be published; those below are confirmed
	seen  map[int]int // how often each was handled
	first []int       // in the order in which they were handled first
	top   int         // the highest of them
	odd   []string    // those that were handled first after a higher one
	again int         // publishes of unknown outcome, which were made again
	moved chan struct{}
}

// quiet are brokers that do not report what a test breaks.
var quiet = &queue.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: time.Minute}

func openBroker(t *testing.T, url string) *queue.Broker {
	t.Helper()
	b := queue.New(openURL(t, url), quiet)
	t.Cleanup(func() { _ = b.Close() }) // what it could not hand back is no concern here
	return b
}

func newTraffic(t *testing.T, b *queue.Broker, name string) *traffic {
	t.Helper()
	if err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: name, SingleActive: true}}}); err != nil {
		t.Fatal(err)
	}
	return &traffic{t: t, name: name, stop: make(chan struct{}), seen: map[int]int{}, moved: make(chan struct{}, 1)}
}

// publishBatch is how many messages are unconfirmed at once.
const publishBatch = 50

// publish publishes numbers in batches, each until it is confirmed.
func (tr *traffic) publish(ctx context.Context, b *queue.Broker) error {
	for {
		select {
		case <-tr.stop:
			return nil
		default:
		}
		tr.mu.Lock()
		n := tr.next
		tr.mu.Unlock()
		var ms []*queue.Message
		for i := range publishBatch {
			ms = append(ms, &queue.Message{ID: strconv.Itoa(n + i), Body: []byte(strconv.Itoa(n + i))})
		}
		if _, err := b.Publish(ctx, queue.Route{Key: tr.name}, ms...); err != nil {
			if ctx.Err() != nil || !errors.Is(err, queue.ErrUnknown) && !errors.Is(err, queue.ErrUnavailable) {
				return err
			}
			tr.t.Logf("published again from %d: %v", n, err)
			tr.mu.Lock()
			tr.again++
			tr.mu.Unlock()
			continue
		}
		tr.mu.Lock()
		tr.next += len(ms)
		tr.mu.Unlock()
	}
}

// handle notes a message.
func (tr *traffic) handle(_ context.Context, d *queue.Delivery) error {
	n, err := strconv.Atoi(string(d.Message.Body))
	if err != nil || d.Message.ID != string(d.Message.Body) {
		tr.t.Errorf("message %q came with the body %q", d.Message.ID, d.Message.Body)
	} else {
		tr.note(n, d.Attempt)
	}
	return nil
}

// note notes that a number was handled.
func (tr *traffic) note(n, attempt int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.seen[n]++; tr.seen[n] == 1 {
		if n < tr.top {
			tr.odd = append(tr.odd, fmt.Sprintf("%d, attempt %d, after %d", n, attempt, tr.top))
		}
		tr.top = max(tr.top, n)
		tr.first = append(tr.first, n)
	}
	select {
	case tr.moved <- struct{}{}:
	default:
	}
}

// trafficTime bounds the traffic of a test, in its long form too.
const trafficTime = 30 * time.Minute

// servePrefetch is how far the consumer reads ahead.
const servePrefetch = 50

// run has traffic while faults happens, and then waits until everything that
// was confirmed has been handled.
func (tr *traffic) run(publisher, consumer *queue.Broker, faults func()) {
	tr.t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	serving, end := context.WithCancel(tr.t.Context())
	defer end()
	wg.Go(func() {
		err := consumer.Serve(serving, tr.name, tr.handle, &queue.ServeOptions{Concurrency: 1, Prefetch: servePrefetch})
		if err != nil && serving.Err() == nil {
			tr.t.Errorf("Serve: %v", err)
		}
	})
	tr.send(publisher, faults)
}

// send publishes while faults happens, and then waits until everything that was
// confirmed has been handled.
func (tr *traffic) send(publisher *queue.Broker, faults func()) {
	tr.t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer tr.report() // whatever else is wrong
	ctx, cancel := context.WithTimeout(tr.t.Context(), trafficTime)
	defer cancel()
	published := make(chan error, 1)
	wg.Go(func() { published <- tr.publish(ctx, publisher) })
	faults()
	close(tr.stop)
	if err := <-published; err != nil {
		tr.t.Fatalf("Publish: %v", err)
	}
	for !tr.complete() {
		select {
		case <-tr.moved:
		case <-ctx.Done():
			tr.mu.Lock()
			tr.t.Errorf("%d of %d confirmed messages were handled: the others are lost", len(tr.first), tr.next)
			tr.mu.Unlock()
			return
		}
	}
}

func (tr *traffic) complete() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.first) >= tr.next
}

// report says how much came twice, and fails if the order was not that of the
// publisher.
func (tr *traffic) report() {
	tr.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	twice := 0
	for _, n := range tr.seen {
		twice += n - 1
	}
	tr.t.Logf("%d confirmed, %d handled, %d of them again, %d out of order, %d publishes made again", tr.next, len(tr.first), twice, len(tr.odd), tr.again)
	if len(tr.odd) > 0 {
		tr.t.Errorf("%d messages were first handled after a higher one: %q", len(tr.odd), tr.odd[:min(len(tr.odd), 20)])
	}
}

// progress waits until that many more messages were handled.
func (tr *traffic) progress(n int) {
	tr.t.Helper()
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.first)
	}
	goal := count() + n
	for end := time.Now().Add(time.Minute); count() < goal; {
		if time.Now().After(end) {
			tr.t.Fatalf("the traffic stands still at %d messages", count())
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls up to a deadline
	}
}
