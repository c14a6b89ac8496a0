package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// trafficKeys is how many order keys traffic has.
const trafficKeys = 20

// traffic is a publisher of numbered messages of several keys, and consumers of
// them that now and then fail.
type traffic struct {
	t    *testing.T
	name string
	stop chan struct{} // closed: no more numbers
	free bool          // nobody promises an order

	mu    sync.Mutex
	next  [trafficKeys]int // number to be published; those below are confirmed
	total int              // confirmed
	seen  map[string]int   // how often each was handled
	high  [trafficKeys]int // behind the highest that was handled
	gaps  []string         // what was handled before one that is before it
	twice int
	again int // publishes of unknown outcome, which were made again
}

// quiet are brokers that do not report what a test breaks.
var quiet = &queue.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: time.Minute}

func openBroker(t testing.TB, url string) *queue.Broker {
	t.Helper()
	b := queue.New(openURL(t, url), quiet)
	t.Cleanup(func() { _ = b.Close() }) // what it could not hand back is no concern here
	return b
}

func newTraffic(t *testing.T, b *queue.Broker, name string) *traffic {
	t.Helper()
	name += " " + rand.Text() // what an earlier run left behind is not of this one
	backoff := queue.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}
	if err := b.Declare(t.Context(), &queue.Topology{Queues: []queue.QueueSpec{{Name: name, Backoff: backoff}}}); err != nil {
		t.Fatal(err)
	}
	return &traffic{t: t, name: name, stop: make(chan struct{}), seen: map[string]int{}}
}

// publish publishes a message of each key, until they are confirmed.
func (tr *traffic) publish(ctx context.Context, b *queue.Broker) error {
	for {
		select {
		case <-tr.stop:
			return nil
		default:
		}
		var ms []*queue.Message
		tr.mu.Lock()
		for k, n := range tr.next {
			m := &queue.Message{AppID: strconv.Itoa(k), Body: []byte(strconv.Itoa(n))}
			if !tr.free {
				m.OrderKey = m.AppID
			}
			ms = append(ms, m)
		}
		tr.mu.Unlock()
		for {
			_, err := b.Publish(ctx, queue.Route{Key: tr.name}, ms...)
			if err == nil {
				break
			}
			if ctx.Err() != nil || !errors.Is(err, queue.ErrUnknown) && !errors.Is(err, queue.ErrUnavailable) {
				return err
			}
			tr.mu.Lock()
			tr.again++
			tr.mu.Unlock()
		}
		tr.mu.Lock()
		for k := range tr.next {
			tr.next[k]++
		}
		tr.total += len(ms)
		tr.mu.Unlock()
		for tr.free && tr.behind() > 1000 { // each is acked at a broker
			if !sleep(ctx, time.Millisecond) {
				return ctx.Err()
			}
		}
	}
}

// behind is how many are confirmed and not handled.
func (tr *traffic) behind() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.total - len(tr.seen)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// handle notes a message, and fails one in fifty.
func (tr *traffic) handle(_ context.Context, d *queue.Delivery) error {
	if mathrand.IntN(50) == 0 {
		return errors.New("it fails now and then")
	}
	tr.note(d.Message.AppID, string(d.Message.Body))
	return nil
}

// note notes a message that was handled.
func (tr *traffic) note(key, body string) {
	k, err1 := strconv.Atoi(key)
	n, err2 := strconv.Atoi(body)
	if err1 != nil || err2 != nil || k >= trafficKeys {
		tr.t.Errorf("key %q came with the body %q", key, body)
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	what := fmt.Sprint(k, "/", n)
	if tr.seen[what]++; tr.seen[what] > 1 {
		tr.twice++
		return
	}
	if n != tr.high[k] && !tr.free {
		tr.gaps = append(tr.gaps, fmt.Sprintf("%s after %d", what, tr.high[k]-1))
	}
	tr.high[k] = n + 1
}

// serve handles messages until ctx ends.
func (tr *traffic) serve(ctx context.Context, b *queue.Broker) {
	err := b.Serve(ctx, tr.name, tr.handle, &queue.ServeOptions{Concurrency: 8, Prefetch: 50})
	if err != nil && ctx.Err() == nil {
		tr.t.Errorf("Serve: %v", err)
	}
}

// run has traffic while faults happens, and then waits until everything that
// was confirmed has been handled.
func (tr *traffic) run(publisher *queue.Broker, faults func(ctx context.Context), consumers ...*queue.Broker) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.t.Context(), 2*time.Minute+time.Duration(times(tr.t))*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	serving, end := context.WithCancel(ctx)
	defer end()
	for _, b := range consumers {
		wg.Go(func() { tr.serve(serving, b) })
	}
	published := make(chan error, 1)
	wg.Go(func() { published <- tr.publish(ctx, publisher) })
	faults(serving)
	close(tr.stop)
	if err := <-published; err != nil {
		tr.t.Fatalf("Publish: %v", err)
	}
	tr.await(func() bool { return len(tr.seen) >= tr.total }, "what was confirmed was handled")
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.t.Logf("%d confirmed, %d handled, %d handled again, %d out of order, %d publishes made again",
		tr.total, len(tr.seen), tr.twice, len(tr.gaps), tr.again)
	if len(tr.gaps) > 0 {
		tr.t.Errorf("%d messages were handled before one that is before it: %s", len(tr.gaps), strings.Join(tr.gaps[:min(10, len(tr.gaps))], ", "))
	}
}

// progress waits until that many more messages were handled.
func (tr *traffic) progress(n int) {
	tr.t.Helper()
	tr.mu.Lock()
	goal := len(tr.seen) + n
	tr.mu.Unlock()
	tr.await(func() bool { return len(tr.seen) >= goal }, "the traffic goes on")
}

// progressOfAll waits until more messages of each key were handled: all
// partitions have somebody.
func (tr *traffic) progressOfAll() {
	tr.t.Helper()
	tr.mu.Lock()
	before := tr.high
	tr.mu.Unlock()
	tr.await(func() bool {
		for k, n := range tr.high {
			if n < before[k]+5 {
				return false
			}
		}
		return true
	}, "the traffic of all keys goes on")
}

func (tr *traffic) await(is func() bool, what string) {
	tr.t.Helper()
	for end := time.Now().Add(90 * time.Second); ; {
		tr.mu.Lock()
		ok, seen, total := is(), len(tr.seen), tr.total
		tr.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			tr.t.Fatalf("it never came that %s: %d of %d confirmed messages were handled", what, seen, total)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls up to a deadline
	}
}
