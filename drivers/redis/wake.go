package redis

import (
	"context"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
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
	swept    time.Time
	listener *listener // nil until somebody waits
}

// claim is whose a waiter is.
type claim struct{ name, holder, id string }

// waiter is one request in a line.
type waiter struct {
	claim   claim
	word    string        // what is published to call it
	called  chan struct{} // holds one call
	recheck time.Time     // when to look without being called
	touched time.Time
	waits   int // Waits under way
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
	return &wakes{c: c, channel: channel, byWord: map[string]*waiter{}, byClaim: map[claim]*waiter{}, swept: time.Now()}
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
	if wt := w.byClaim[k]; wt != nil {
		delete(w.byClaim, k)
		delete(w.byWord, wt.word)
		wt.call() // whoever waits looks again
	}
}

// queued notes when the waiter is to look again.
func (w *wakes) queued(wt *waiter, recheck time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.recheck = time.Now().Add(recheck)
	wt.touched = time.Now()
}

// begin counts a Wait and returns how long it may last.
func (w *wakes) begin(wt *waiter) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.waits++
	return time.Until(wt.recheck)
}

func (w *wakes) end(wt *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wt.waits--
	wt.touched = time.Now()
}

// sweep forgets waiters that nobody has asked for in a long time.
func (w *wakes) sweep(now time.Time) {
	if now.Sub(w.swept) < sweepEvery {
		return
	}
	w.swept = now
	for k, wt := range w.byClaim {
		if wt.waits == 0 && now.Sub(wt.touched) > forgetAfter {
			delete(w.byClaim, k)
			delete(w.byWord, wt.word)
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
