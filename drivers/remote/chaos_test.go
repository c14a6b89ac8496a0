package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

const (
	// chaosTime is how long the network is bad in a normal run, and chaosEnv
	// the environment variable that says otherwise.
	chaosTime    = 12 * time.Second
	chaosEnv     = "LOCKKEEPER_CHAOS"
	chaosClients = 50
	chaosNames   = 8
	maxBacklog   = 2000 // messages, so that the end is not all about draining
)

// chaos is what 50 clients did, and what must hold.
type chaos struct {
	t    *testing.T
	over chan struct{} // the network is good again: finish

	mu      sync.Mutex
	holders map[string]*lock.Lease // who believes to hold a name
	tokens  map[string]lock.Token
	cycles  int
	ledger  ledger
}

// ledger is what became of the messages, in little memory.
type ledger struct {
	of        [chaosClients][]fate
	confirmed int
	handled   int // messages, confirmed or not
	again     int // deliveries of one that had been handled
}

// fate of a message.
type fate struct {
	seq       uint64 // of the message that was handled; 0: none
	confirmed bool
}

// at returns the fate of the message with an id.
func (l *ledger) at(id string) (*fate, error) {
	var client, n int
	if _, err := fmt.Sscanf(id, "%d/%d", &client, &n); err != nil {
		return nil, err
	}
	for len(l.of[client]) <= n {
		l.of[client] = append(l.of[client], fate{})
	}
	return &l.of[client][n], nil
}

// bytes of heap that it takes.
func (l *ledger) bytes() (n int64) {
	for _, of := range &l.of {
		n += int64(cap(of)) * int64(unsafe.Sizeof(fate{}))
	}
	return n
}

// TestBadNetwork has 50 clients lock, publish and consume through a network
// that delays, swallows and cuts. No two hold a lock at once, no confirmed
// message is lost or stored twice, nobody waits for ever, memory does not grow
// with what is done, and nothing is left running.
//
//	LOCKKEEPER_CHAOS=10m go test -run TestBadNetwork -timeout 20m -v ./drivers/remote
func TestBadNetwork(t *testing.T) {
	length := chaosTime
	if s := os.Getenv(chaosEnv); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	before, heapBefore := runtime.NumGoroutine(), collected().live
	t.Run("load", func(t *testing.T) { badNetwork(t, length) })
	until := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before+5 {
		if time.Now().After(until) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
	grown := collected().live - heapBefore
	t.Logf("%d goroutines before, %d after; %d KiB of heap more than before", before, runtime.NumGoroutine(), grown>>10)
	if grown > chaosGrowth {
		t.Errorf("%d bytes of heap are left, at most %d", grown, chaosGrowth)
	}
}

func badNetwork(t *testing.T, length time.Duration) {
	t.Helper()
	d := startOn(t, "file://"+t.TempDir()+"?min_ttl=50ms", nil)
	w := newWeather(t, d.addr)
	c := &chaos{
		t: t, over: make(chan struct{}), holders: map[string]*lock.Lease{}, tokens: map[string]lock.Token{},
	}
	ctx, cancel := context.WithTimeout(t.Context(), length+3*time.Minute)
	defer cancel()
	admin, err := queue.Open(ctx, d.url())
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "q", Lease: 5 * time.Second, DedupWindow: time.Hour}}}); err != nil {
		t.Fatal(err)
	}
	var wg, consumers sync.WaitGroup
	serving, stop := context.WithCancel(ctx)
	defer stop()
	for i := range chaosClients {
		l, q := c.client(ctx, w.url())
		wg.Go(func() { c.lock(ctx, i, l) })
		wg.Go(func() { c.publish(ctx, i, q) })
		consumers.Go(func() { c.consume(serving, q) })
	}
	scales := c.weigh(d, length)
	w.storm(length)
	close(c.over)
	scales.stop()
	wg.Wait()
	defer func() {
		if missing := c.missing(); missing > 0 {
			t.Errorf("%d of %d confirmed messages were not handled", missing, c.ledger.confirmed)
		}
	}()
	waitFor(ctx, t, "every confirmed message was handled", func() bool { return c.missing() == 0 })
	waitFor(ctx, t, "the queue is empty", func() bool {
		s, err := admin.Stats(ctx, "q")
		return err == nil && s.Ready+s.Delayed+s.InFlight == 0
	})
	stop()
	consumers.Wait()
	stats, err := admin.Stats(ctx, "q")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Close(); err != nil {
		t.Error(err)
	}
	scales.sample("everything was handled")
	scales.judge()
	if c.cycles < chaosClients || c.ledger.confirmed < chaosClients {
		t.Errorf("only %d cycles of locks and %d messages", c.cycles, c.ledger.confirmed)
	}
	// Messages of which the publisher did not hear that they are stored: there
	// may be none, since it sends until it does.
	if extra := stats.Published - int64(c.ledger.confirmed); extra != 0 {
		t.Errorf("%d messages were stored, %d confirmed", stats.Published, c.ledger.confirmed)
	}
	t.Logf("locks: %d cycles; messages: %d confirmed, %d stored, %d sent again and found stored, %d handled again, %d leases of deliveries ran out",
		c.cycles, c.ledger.confirmed, stats.Published, stats.Duplicates, c.ledger.again, stats.Expired)
	t.Logf("network: %d connections, %d cut, %d turned into black holes for a while", w.conns.Load(), w.cuts.Load(), w.holds.Load())
}

// client opens both APIs, closed with the test.
func (c *chaos) client(ctx context.Context, url string) (*lock.Locker, *queue.Broker) {
	c.t.Helper()
	l := openLocker(ctx, c.t, url)
	q, err := queue.Open(ctx, url)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := q.Close(); err != nil {
			c.t.Errorf("close: %v", err)
		}
	})
	return l, q
}

func (c *chaos) finished() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// lock holds one name after the other for a moment.
func (c *chaos) lock(ctx context.Context, client int, l *lock.Locker) {
	for n := client; !c.finished(); n++ {
		name := fmt.Sprint("n", n%chaosNames)
		le, err := l.Acquire(ctx, name, &lock.Options{TTL: 2 * time.Second})
		if err != nil {
			c.t.Errorf("client %d waits for ever: %v", client, err)
			return
		}
		c.mu.Lock()
		if other := c.holders[name]; other != nil && other.Check() == nil && le.Check() == nil {
			c.t.Errorf("%s: token %d was granted while %d holds", name, le.Token(), other.Token())
		}
		if le.Token() <= c.tokens[name] {
			c.t.Errorf("%s: token %d after %d", name, le.Token(), c.tokens[name])
		}
		c.holders[name], c.tokens[name] = le, le.Token()
		c.cycles++
		c.mu.Unlock()
		select {
		case <-time.After(rand.N(3 * time.Millisecond)):
		case <-le.Context().Done():
		}
		c.mu.Lock()
		if c.holders[name] == le {
			c.holders[name] = nil
		}
		c.mu.Unlock()
		_ = le.Release(ctx) // lost, or released behind our back: both may be
	}
}

// publish sends messages with ids until each is confirmed.
func (c *chaos) publish(ctx context.Context, client int, q *queue.Broker) {
	p := q.Publisher(nil)
	defer func() { _ = p.Close() }() // its failures were seen
	for n := 0; !c.finished(); {
		var pendings []*queue.Pending
		var ids []string
		for range 5 {
			id := fmt.Sprintf("%d/%d", client, n)
			n++
			pending, err := p.Send(ctx, queue.Route{Key: "q"}, &queue.Message{ID: id, OrderKey: fmt.Sprint(client), Body: []byte(id)})
			if err != nil {
				c.t.Errorf("send: %v", err)
				return
			}
			pendings, ids = append(pendings, pending), append(ids, id)
		}
		for j, pending := range pendings {
			if _, err := pending.Receipt(ctx); err != nil {
				c.t.Errorf("message %s was not confirmed: %v", ids[j], err)
				continue
			}
			c.confirm(ids[j])
		}
		for pause := rand.N(20 * time.Millisecond); ; pause = 10 * time.Millisecond {
			select {
			case <-time.After(pause):
			case <-c.over:
			}
			if c.finished() || c.backlog() < maxBacklog {
				break
			}
		}
	}
}

func (c *chaos) confirm(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.ledger.at(id)
	if err != nil {
		c.t.Error(err)
		return
	}
	f.confirmed = true
	c.ledger.confirmed++
}

// missing is how many messages are confirmed and were never seen.
func (c *chaos) missing() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range &c.ledger.of {
		for _, f := range of {
			if f.confirmed && f.seq == 0 {
				n++
			}
		}
	}
	return n
}

// backlog is how many messages are confirmed and not handled.
func (c *chaos) backlog() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.confirmed - c.ledger.handled
}

// consume handles messages, and checks that each id has one message.
func (c *chaos) consume(ctx context.Context, q *queue.Broker) {
	err := q.Serve(ctx, "q", func(_ context.Context, d *queue.Delivery) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		f, err := c.ledger.at(d.Message.ID)
		switch {
		case err != nil:
			c.t.Error(err)
			return nil
		case f.seq == 0:
			c.ledger.handled++
		case f.seq != d.Seq():
			c.t.Errorf("message %s is there twice, as %d and as %d", d.Message.ID, f.seq, d.Seq())
		default:
			c.ledger.again++
		}
		f.seq = d.Seq()
		return nil
	}, &queue.ServeOptions{Concurrency: 4})
	if err != nil && ctx.Err() == nil {
		c.t.Errorf("serve: %v", err)
	}
}
