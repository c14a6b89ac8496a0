//go:build !linux

package lease

import (
	"sync"
	"time"
)

// pollInterval is how late after a suspend a timer may be.
const pollInterval = 100 * time.Millisecond

// SystemClock returns the clock to judge leases by: it never goes back and it
// runs on while the machine is suspended. On Linux it is CLOCK_BOOTTIME, with
// a timerfd for each timer; elsewhere it is put together from the monotonic
// and the wall clock, and a step of the wall clock forwards ends leases early.
func SystemClock() Clock { return system }

var system = &ratchetClock{origin: time.Now()}

// ratchetClock is the monotonic clock plus the most by which the wall clock
// has ever run ahead of it. A suspend moves it on; a step of the wall clock
// backwards does nothing.
type ratchetClock struct {
	origin time.Time
	mu     sync.Mutex
	ahead  time.Duration
}

func (c *ratchetClock) Now() Instant {
	now := time.Now()
	mono := now.Sub(c.origin)
	wall := now.Round(0).Sub(c.origin.Round(0))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = max(c.ahead, wall-mono)
	return Instant(mono + c.ahead)
}

func (c *ratchetClock) NewTimer() Timer { return newPollTimer(c.Now, pollInterval) }
