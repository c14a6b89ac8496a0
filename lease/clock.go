package lease

import "time"

// Instant is a point on a Clock in nanoseconds since an origin of the clock's
// own. Instants of different machines, or of one machine before and after a
// reboot, cannot be compared.
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Margin is what a holder subtracts from its deadline, so that it has stopped
// before the backend, which counts from a little later, grants to another: a
// tenth of the TTL, at most one second.
func Margin(ttl time.Duration) time.Duration { return min(ttl/10, time.Second) }

// Deadline returns when a holder must consider its lease ended: the moment
// before the request that granted or renewed it was sent, plus the time that
// the backend says passed between receiving the request and granting, plus
// the TTL, less Margin. waited is not believed beyond received - sent.
func Deadline(sent, received Instant, waited, ttl time.Duration) Instant {
	waited = max(0, min(waited, received.Sub(sent)))
	return sent.Add(waited + ttl - Margin(ttl))
}

// Clock is a source of Instants and of wake-ups on them. SystemClock is the
// one to use; tests pass GoClock or their own. Its methods may be called
// concurrently.
type Clock interface {
	Now() Instant
	// NewTimer returns a timer of this clock that is not set.
	NewTimer() Timer
}

// Timer fires once for each Reset, on C, at or after the instant, also if the
// machine was suspended when it came. One goroutine at a time may call Reset
// and Stop.
type Timer interface {
	// C holds at most one tick.
	C() <-chan struct{}
	// Reset replaces an earlier instant; a tick of the earlier one may still
	// be in C, or arrive there. Whoever receives a tick looks at the clock.
	Reset(at Instant)
	// Stop ends the timer for good and frees what it has; Reset must not be
	// called after it. Stop again does nothing.
	Stop()
}
