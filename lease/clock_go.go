package lease

import "time"

// GoClock returns a clock made of time.Now and time.Timer, with its origin at
// the call. It stands still while the machine is suspended, so a lease must
// not be judged by it outside of tests; under testing/synctest it follows the
// bubble that it was made in.
func GoClock() Clock { return goClock{origin: time.Now()} }

type goClock struct{ origin time.Time }

func (c goClock) Now() Instant { return Instant(time.Since(c.origin)) }

func (c goClock) NewTimer() Timer { return newPollTimer(c.Now, 0) }

// pollTimer fires by a clock that Go's timers do not follow: it sleeps no
// longer than most at a time and then looks. A zero most means that they do
// follow it.
type pollTimer struct {
	now  func() Instant
	most time.Duration
	c    chan struct{}
	set  chan Instant
	stop chan struct{}
	done chan struct{}
}

func newPollTimer(now func() Instant, most time.Duration) *pollTimer {
	t := &pollTimer{
		now: now, most: most,
		c: make(chan struct{}, 1), set: make(chan Instant),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go t.run()
	return t
}

func (t *pollTimer) C() <-chan struct{} { return t.c }

func (t *pollTimer) Reset(at Instant) { t.set <- at }

func (t *pollTimer) Stop() {
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	<-t.done
}

func (t *pollTimer) run() {
	defer close(t.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	var at Instant
	for {
		select {
		case <-t.stop:
			return
		case at = <-t.set:
		case <-timer.C:
		}
		left := at.Sub(t.now())
		if left <= 0 {
			tick(t.c)
			timer.Stop()
			continue
		}
		if t.most > 0 {
			left = min(left, t.most)
		}
		timer.Reset(left)
	}
}

// tick puts a tick into c unless one is there.
func tick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
