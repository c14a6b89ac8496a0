package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// crashes is how often the daemon is killed.
const crashes = 100

// crashTTL is the TTL of locks under crashes. A holder whose release was lost
// keeps the others waiting so long.
const crashTTL = time.Second

// TestCrashes kills the real daemon with SIGKILL, again and again, under a load
// of locks, queues and commits over both, and counts what must not happen.
func TestCrashes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	locks, queues := clients(t, d.url)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	topology := &queue.Topology{Queues: []queue.QueueSpec{{
		Name: "work", Lease: 2 * time.Second, DedupWindow: time.Hour,
		Backoff: queue.Backoff{Min: time.Millisecond, Max: time.Millisecond},
	}}}
	topology.Queues = append(topology.Queues, chainTopology()...)
	if err := queues.Declare(ctx, topology); err != nil {
		t.Fatal(err)
	}
	messages := &messageLedger{confirmed: map[string]bool{}, acked: map[string]time.Time{}, tokens: map[string]queue.Token{}}
	names := &lockLedger{holders: map[string]*lock.Lease{}, tokens: map[string]lock.Token{}}
	orders := &chain{queues: queues, locks: locks, arrived: map[string]map[uint64]bool{}}
	publishing, stopPublishing := context.WithCancel(ctx)
	var publishers, workers sync.WaitGroup
	for i := range 2 {
		publishers.Go(func() { messages.publish(publishing, queues, fmt.Sprintf("p%d", i)) })
		workers.Go(func() { messages.consume(ctx, queues) })
	}
	publishers.Go(func() { orders.place(publishing) })
	for stage := range chainQueues {
		workers.Go(func() { orders.work(ctx, stage) })
	}
	for i := range 6 {
		workers.Go(func() { names.cycle(publishing, locks, i) })
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range crashes {
		load := time.Duration(10+random.IntN(80)) * time.Millisecond
		if n%20 == 19 {
			load += 3 * crashTTL / 2 // until names that were in use at a crash are granted again
		}
		time.Sleep(load) //nolint:forbidigo // load, not synchronisation
		d.kill()
		d.start()
	}
	stopPublishing()
	publishers.Wait()
	eventually(t, "every confirmed message was delivered", messages.done)
	eventually(t, "all are settled", func() bool {
		s, err := queues.Stats(ctx, "work")
		return err == nil && s.Ready+s.Delayed+s.InFlight == 0
	})
	eventually(t, "every order has gone the whole way", func() bool { return orders.done(ctx) })
	orders.check(t)
	cancel()
	workers.Wait()

	t.Logf("%d crashes: %d messages confirmed, %d acked, %d delivered again; %d grants", crashes,
		len(messages.confirmed), len(messages.acked), messages.again, names.grants)
	if len(messages.confirmed) < crashes || names.grants < crashes/2 {
		t.Errorf("too little load to show anything")
	}
	for _, w := range append(messages.wrong, names.wrong...) {
		t.Error(w)
	}
}

// clients opens locks and queues; they live through the daemon's crashes.
func clients(t *testing.T, u string) (*lock.Locker, *queue.Broker) {
	t.Helper()
	ctx := context.Background()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	lockConn, err := lock.OpenConn(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	locks := lock.New(lockConn, &lock.Config{Logger: quiet})
	t.Cleanup(func() { locks.Close() })
	queueConn, err := queue.OpenConn(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	queues := queue.New(queueConn, &queue.Config{Logger: quiet})
	t.Cleanup(func() { queues.Close() })
	return locks, queues
}

// messageLedger knows what was confirmed, delivered and acked.
type messageLedger struct {
	mu        sync.Mutex
	confirmed map[string]bool
	acked     map[string]time.Time
	tokens    map[string]queue.Token
	again     int
	wrong     []string
}

func (l *messageLedger) found(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// publish repeats each message with its id until it is confirmed.
func (l *messageLedger) publish(ctx context.Context, queues *queue.Broker, prefix string) {
	for n := 0; ctx.Err() == nil; n++ {
		batch := make([]*queue.Message, 8)
		for i := range batch {
			batch[i] = &queue.Message{ID: fmt.Sprintf("%s-%d-%d", prefix, n, i), Body: []byte("work")}
		}
		for {
			// The last batch is seen to its end.
			_, err := queues.Publish(context.WithoutCancel(ctx), queue.Route{Key: "work"}, batch...)
			if err == nil {
				break
			}
			if !errors.Is(err, queue.ErrUnknown) && !errors.Is(err, queue.ErrUnavailable) {
				l.mu.Lock()
				l.found("publish: %v", err)
				l.mu.Unlock()
				return
			}
		}
		l.mu.Lock()
		for _, m := range batch {
			l.confirmed[m.ID] = true
		}
		l.mu.Unlock()
	}
}

func (l *messageLedger) consume(ctx context.Context, queues *queue.Broker) {
	consumer, err := queues.Consumer(ctx, "work", &queue.ConsumerOptions{Prefetch: 16})
	if err != nil {
		panic(err) // the options are constant
	}
	defer consumer.Close()
	for {
		deliveries, err := consumer.Receive(ctx, 16)
		if err != nil {
			if ctx.Err() == nil {
				l.mu.Lock()
				l.found("receive: %v", err)
				l.mu.Unlock()
			}
			return
		}
		var acks sync.WaitGroup
		for _, d := range deliveries {
			l.delivered(d)
			acks.Go(func() { l.ack(ctx, d) })
		}
		acks.Wait()
	}
}

func (l *messageLedger) delivered(d *queue.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := d.Message.ID
	// A delivery that was on its way while another one was acked is no ack
	// undone; but then it is not held any more either.
	if at, done := l.acked[id]; done && d.Check() == nil && time.Since(at) > crashTTL {
		l.found("%s was acked %v ago and is delivered again", id, time.Since(at))
	}
	if before, seen := l.tokens[id]; seen {
		l.again++
		if d.Token() < before {
			l.found("%s: token %v after %v", id, d.Token(), before)
		}
	}
	l.tokens[id] = max(l.tokens[id], d.Token())
}

func (l *messageLedger) ack(ctx context.Context, d *queue.Delivery) {
	for {
		err := d.Ack(ctx)
		if errors.Is(err, queue.ErrUnknown) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return // not held any more: it comes again, or was acked
		}
		l.settled(d.Message.ID)
		return
	}
}

func (l *messageLedger) settled(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, twice := l.acked[id]; twice {
		l.found("%s was acked twice, with success", id)
	}
	l.acked[id] = time.Now()
}

// done reports whether each confirmed message was delivered and settled: an
// ack whose answer was lost is not in acked, so the queue itself is asked.
func (l *messageLedger) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.confirmed {
		if _, seen := l.tokens[id]; !seen {
			return false
		}
	}
	return true
}

// lockLedger knows who holds what, as the holders see it.
type lockLedger struct {
	mu      sync.Mutex
	holders map[string]*lock.Lease
	tokens  map[string]lock.Token
	grants  int
	wrong   []string
}

// cycle acquires and releases until ctx ends: now a name that all workers
// want, now one of many.
func (l *lockLedger) cycle(ctx context.Context, locks *lock.Locker, worker int) {
	random := rand.New(rand.NewPCG(3, uint64(worker)))
	for ctx.Err() == nil {
		name := fmt.Sprintf("name-%d", random.IntN(200))
		if random.IntN(50) == 0 {
			name = "everybody's"
		}
		held, err := locks.Acquire(ctx, name, &lock.Options{TTL: crashTTL})
		if err != nil {
			if ctx.Err() == nil {
				l.mu.Lock()
				l.wrong = append(l.wrong, fmt.Sprintf("acquire: %v", err))
				l.mu.Unlock()
			}
			return
		}
		l.granted(held)
		time.Sleep(time.Millisecond) //nolint:forbidigo // the work under the lock
		l.leaving(held)
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		_ = held.Release(release) // lost in a crash, it runs out
		cancel()
	}
}

func (l *lockLedger) granted(held *lock.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grants++
	name := held.Name()
	if other := l.holders[name]; other != nil && other.Check() == nil && held.Check() == nil {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: granted with token %v while %v is held", name, held.Token(), other.Token()))
	}
	if held.Token() <= l.tokens[name] {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: token %v after %v", name, held.Token(), l.tokens[name]))
	}
	l.tokens[name] = held.Token()
	l.holders[name] = held
}

func (l *lockLedger) leaving(held *lock.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders[held.Name()] == held {
		delete(l.holders, held.Name())
	}
}
