package rabbitmq

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	// singleAhead is how many deliveries a consumer of a queue with a single
	// active consumer has at most, unless it says how far it reads ahead.
	singleAhead = 256
	// singleWait is how long a receive from such a queue waits at least: a
	// broker pushes, and cannot be asked what there is.
	singleWait = 100 * time.Millisecond
)

// single is what a stream has besides in a queue with a single active consumer.
// Its consumer keeps its place at the broker, and with it what comes, until it
// has left and all that it was given is settled; then its channel is closed. A
// broker that loses a channel puts back what that had, in order, before the next
// consumer gets anything, and does not so when a subscription ends alone.
type single struct {
	st    *stream
	busy  int          // receives under way; guarded by source.waitingM
	heard atomic.Int64 // when the consumer was heard of, since began
	began time.Time
	timer *time.Timer // looks whether it is silent

	mu    sync.Mutex
	again []*held       // released, in order; the broker does not know of it
	back  chan struct{} // a token: again was empty
}

func newSingle(st *stream) *single {
	g := &single{st: st, began: time.Now(), back: make(chan struct{}, 1)}
	g.timer = time.AfterFunc(st.s.spec.Lease, g.look)
	return g
}

func (g *single) hear() { g.heard.Store(int64(time.Since(g.began))) }

// look has a consumer leave that was not heard of for the queue's lease.
func (g *single) look() {
	s := g.st.s
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	if s.streams[g.st.tag] != g.st || g.st.inbox.dead() {
		return
	}
	left := s.spec.Lease
	if g.busy == 0 && g.st.inbox.open.Load() <= 0 {
		left -= time.Since(g.began) - time.Duration(g.heard.Load())
	}
	if left > 0 {
		g.timer.Reset(left)
		return
	}
	delete(s.streams, g.st.tag)
	s.c.work.Start(g.st.detach)
}

// enter notes a receive; false: the consumer has left.
func (g *single) enter() bool {
	s := g.st.s
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	if s.streams[g.st.tag] != g.st {
		return false
	}
	g.busy++
	return true
}

func (g *single) leave() {
	g.st.s.waitingM.Lock()
	defer g.st.s.waitingM.Unlock()
	g.busy--
	g.hear()
}

// release takes a delivery back to give it out again: in the queue it would come
// behind what was read ahead.
func (g *single) release(h *held) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, _ := slices.BinarySearchFunc(g.again, h.tag, func(x *held, tag uint64) int {
		if x.tag < tag {
			return -1
		}
		return 1
	})
	g.again = slices.Insert(g.again, at, h)
	select {
	case g.back <- struct{}{}:
	default:
	}
}

// retake gives out what was released. The stream's turn is held.
func (g *single) retake(r *driver.ReceiveRequest) []driver.Delivery {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ds []driver.Delivery
	size, n := 0, 0
	for n < len(g.again) && n < r.Max {
		h := *g.again[n]
		if size += len(h.message.Body); size > r.MaxBytes && n > 0 {
			break
		}
		ds = append(ds, g.st.s.c.hold(&h, r.Lease))
		n++
	}
	g.again = slices.Delete(g.again, 0, n)
	return ds
}

// end has the channel closed when nothing is with the consumer any more.
func (g *single) end() {
	g.timer.Stop()
	st := g.st
	<-st.turn
	st.inbox.retire()
	st.turn <- struct{}{}
}
