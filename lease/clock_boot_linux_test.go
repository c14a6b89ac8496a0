package lease

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeClocks are clocks of a machine that can be suspended.
type fakeClocks struct {
	wall, mono, suspended int64
	asked                 int // for boot time
	slow                  int64
}

func (c *fakeClocks) clocks() (wall, mono int64) { return c.wall, c.mono }

func (c *fakeClocks) boot() int64 {
	c.asked++
	boot := c.mono + c.suspended
	c.pass(time.Duration(c.slow)) // and then the process did not run
	return boot
}

func (c *fakeClocks) pass(d time.Duration) {
	c.wall += int64(d)
	c.mono += int64(d)
}

func (c *fakeClocks) suspend(d time.Duration) {
	c.wall += int64(d)
	c.suspended += int64(d)
}

func (c *fakeClocks) check(t *testing.T, r *bootReader, what string) {
	t.Helper()
	if got, want := r.now(), Instant(c.mono+c.suspended); got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// The reader tells boot time through suspends and steps of the wall clock.
func TestBootReader(t *testing.T) {
	c := &fakeClocks{wall: 1e18, mono: 5e12, suspended: 3e12}
	r := newBootReader(c.clocks, c.boot)
	c.check(t, r, "at first")
	c.pass(bootLook / 2)
	asked := c.asked
	c.check(t, r, "a little later")
	if c.asked != asked {
		t.Errorf("asked the kernel %d times within a look", c.asked-asked)
	}
	c.suspend(time.Hour)
	c.check(t, r, "after a suspend")
	c.pass(time.Millisecond)
	c.suspend(leastJump)
	c.check(t, r, "after the shortest suspend that is seen at once")
	for _, step := range []time.Duration{time.Hour, -2 * time.Hour, leastJump / 2} {
		c.wall += int64(step)
		c.check(t, r, "after a step of the wall clock")
	}
	c.wall -= int64(time.Minute)
	c.suspend(time.Minute) // hidden by the step
	c.pass(bootLook)
	c.check(t, r, "at the next look")
}

// A look during which the process did not run is behind by as much at most, is
// tried again, and is made good by the next.
func TestBootReaderSlowLook(t *testing.T) {
	c := &fakeClocks{wall: 1e18, slow: int64(time.Second)}
	r := newBootReader(c.clocks, c.boot)
	if c.asked != narrowTries {
		t.Errorf("%d tries", c.asked)
	}
	last := r.now()
	if behind := Instant(c.mono).Sub(last); behind != time.Second {
		t.Errorf("behind by %v", behind)
	}
	c.slow = 0
	c.pass(bootLook)
	c.check(t, r, "at the next look")
	c.slow = int64(time.Second)
	c.pass(bootLook)
	c.check(t, r, "at a slow one after that")
}

// In a bubble Go's clocks are others: the system's clock is not moved by them,
// there or afterwards.
func TestSystemClockInBubble(t *testing.T) {
	clock := SystemClock()
	near := func() {
		t.Helper()
		before := bootTime()
		now := int64(clock.Now())
		if after := bootTime(); now < before-int64(time.Millisecond) || now > after {
			t.Errorf("%d, and boot time is %d to %d", now, before, after)
		}
	}
	near()
	synctest.Test(t, func(*testing.T) {
		near()
		<-time.After(24 * time.Hour)
		near()
	})
	near()
}

// Readings of many goroutines never go back, and are never ahead.
func TestSystemClockIsSteady(t *testing.T) {
	clock := SystemClock()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			last := clock.Now()
			for range 20_000 {
				now := clock.Now()
				if now < last || int64(now) > bootTime() {
					t.Errorf("%v after %v, ahead of boot time or back", now, last)
					return
				}
				last = now
			}
		})
	}
	all.Wait()
}

func BenchmarkSystemClock(b *testing.B) {
	clock := SystemClock()
	for b.Loop() {
		clock.Now()
	}
}
