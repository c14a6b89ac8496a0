package redis

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How long what is kept of a waiter outlives the last call for it, and how
// often that is looked for.
const (
	forgetAfter = time.Minute
	sweepEvery  = 20 * time.Second
)

// wakes brings what is published on the client's one channel to those who
// wait. A waiter is registered before its request is sent, so that a call
// that comes between its Acquire and its Wait is not lost.
type wakes struct {
	c       *conn
	channel string

	mu       sync.Mutex
	next     uint64
	byWord   map[string]*waiter
	byClaim  map[claim]*waiter
	lines    map[string]*line
	swept    time.Time
	listener *listener // nil until somebody waits
}

// claim is whose a waiter is.
type claim struct{ name, holder, id string }

func claimOf(r *driver.Request) claim { return claim{r.Name, r.Holder, r.ID} }

// waiter is one request in a line.
type waiter struct {
	claim   claim
	word    string        // what is published to call it
	called  chan struct{} // holds one call
	recheck time.Time     // when to look without being called
	touched time.Time
	waits   int    // Waits under way
	place   int64  // in the line of its name; 0: none yet
	ahead   *ahead // of the Wait under way
}

// line is this client's part of the line of a name.
type line struct {
	waiters      []*waiter // by their places; never empty
	misses, skip int       // see wakes.first
}

// listener is the subscription.
type listener struct {
	pubsub *goredis.PubSub
	ready  chan struct{} // closed when nobody needs to wait for it any more
	settle sync.Once     // closes ready
}

// settled says that the server has confirmed the subscription, or that it has
// not in good time: then waiters go without until it does.
func (l *listener) settled() { l.settle.Do(func() { close(l.ready) }) }

func newWakes(c *conn, channel string) *wakes {
	return &wakes{c: c, channel: channel, byWord: map[string]*waiter{}, byClaim: map[claim]*waiter{}, lines: map[string]*line{}, swept: time.Now()}
}

// register returns the waiter of a claim, and sees to it that the client
// listens. If the subscription cannot be had in time the waiter goes without:
// it looks for itself.
func (w *wakes) register(ctx context.Context, k claim) *waiter {
	w.mu.Lock()
	now := time.Now()
	w.sweep(now)
	wt := w.byClaim[k]
	if wt == nil {
		w.next++
		wt = &waiter{claim: k, word: strconv.FormatUint(w.next, 36), called: make(chan struct{}, 1)}
		w.byClaim[k], w.byWord[wt.word] = wt, wt
	}
	wt.touched = now
	l := w.listen()
	w.mu.Unlock()
	if l == nil {
		return wt
	}
	select {
	case <-l.ready:
		return wt
	default:
	}
	t := time.NewTimer(w.c.timeout)
	defer t.Stop()
	select {
	case <-l.ready:
	case <-t.C:
		l.settled()
	case <-ctx.Done():
	case <-w.c.closed:
	}
	return wt
}

// find returns the waiter of a claim, nil if there is none.
func (w *wakes) find(k claim) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byClaim[k]
}

// forget ends a waiter.
func (w *wakes) forget(k claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgetLocked(k)
}

func (w *wakes) forgetLocked(k claim) {
	if wt := w.byClaim[k]; wt != nil {
		w.dropLocked(wt)
		wt.call() // whoever waits looks again
	}
}

// dropLocked takes a waiter out of all that it is in.
func (w *wakes) dropLocked(wt *waiter) {
	delete(w.byClaim, wt.claim)
	delete(w.byWord, wt.word)
	w.placeLocked(wt, 0)
}

// placeLocked gives a waiter its place among those of its name.
func (w *wakes) placeLocked(wt *waiter, place int64) {
	name := wt.claim.name
	l := w.lines[name]
	if wt.place == place {
		return
	}
	if wt.place != 0 {
		i, _ := l.find(wt.place, wt.word)
		if l.waiters = slices.Delete(l.waiters, i, i+1); len(l.waiters) == 0 && place == 0 {
			delete(w.lines, name)
		}
	}
	if wt.place = place; place == 0 {
		return
	}
	if l == nil {
		l = &line{}
		w.lines[name] = l
	}
	i, _ := l.find(place, wt.word)
	l.waiters = slices.Insert(l.waiters, i, wt)
}

// find returns where in a line a place is, or would be.
func (l *line) find(place int64, word string) (int, bool) {
	return slices.BinarySearchFunc(l.waiters, place, func(wt *waiter, place int64) int {
		return cmp.Or(cmp.Compare(wt.place, place), cmp.Compare(wt.word, word))
	})
}

// queued notes a waiter's place, and when it is to look again.
func (w *wakes) queued(wt *waiter, place int64, recheck time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.recheck = time.Now().Add(recheck)
	wt.touched = time.Now()
	if w.byClaim[wt.claim] == wt {
		w.placeLocked(wt, place)
	}
}

// begin counts a Wait, which has an attempt ready, and returns how long it may
// last.
func (w *wakes) begin(wt *waiter, a *ahead) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.waits++
	if wt.ahead == nil {
		wt.ahead = a
	}
	return time.Until(wt.recheck)
}

func (w *wakes) end(wt *waiter, a *ahead) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.waits--
	wt.touched = time.Now()
	if wt.ahead == a {
		wt.ahead = nil
	}
}

// sweep forgets waiters that nobody has asked for in a long time.
func (w *wakes) sweep(now time.Time) {
	if now.Sub(w.swept) < sweepEvery {
		return
	}
	w.swept = now
	for _, wt := range w.byClaim {
		if wt.waits == 0 && now.Sub(wt.touched) > forgetAfter {
			w.dropLocked(wt)
		}
	}
}

// call does not block; calls that come together are one.
func (wt *waiter) call() {
	select {
	case wt.called <- struct{}{}:
	default:
	}
}

// listen returns the subscription and begins it if there is none; nil if the
// conn is closed. mu is held.
func (w *wakes) listen() *listener {
	if w.listener != nil {
		return w.listener
	}
	l := &listener{ready: make(chan struct{})}
	started := w.c.work.Start(func() {
		l.pubsub = w.c.client.Subscribe(w.c.ctx, w.channel)
		w.receive(l)
	})
	if !started {
		return nil
	}
	w.listener = l
	return l
}

// receive brings calls to waiters until the conn is closed. go-redis
// reconnects and subscribes again by itself. What was published in between is
// lost, so that all look after each new subscription.
func (w *wakes) receive(l *listener) {
	defer l.pubsub.Close() //nolint:errcheck // nothing is lost with a subscription
	messages := l.pubsub.ChannelWithSubscriptions(goredis.WithChannelSize(1024))
	first := true
	for {
		select {
		case <-w.c.closed:
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			switch m := m.(type) {
			case *goredis.Message:
				w.mu.Lock()
				if wt := w.byWord[m.Payload]; wt != nil {
					wt.call()
				}
				w.mu.Unlock()
			case *goredis.Subscription:
				l.settled()
				if !first {
					w.callAll()
				}
				first = false
			}
		}
	}
}

func (w *wakes) callAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wt := range w.byWord {
		wt.call()
	}
}
