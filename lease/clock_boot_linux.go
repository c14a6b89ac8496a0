package lease

import (
	"sync/atomic"
	"time"
)

// bootReader tells CLOCK_BOOTTIME without a system call for each reading. Go
// reads the monotonic and the wall clock from memory that the kernel shares. Boot
// time is ahead of the monotonic clock by as long as the machine was suspended,
// so the difference is asked for once and kept. A suspend moves the wall clock
// ahead of the monotonic one too, by as much, and is seen by that at the next
// reading. So is a step of the wall clock, which costs one look. A step back by
// just as long as a suspend that came in the same bootLook would hide it until
// the end of that.
//
// What it tells never goes back, is never ahead of boot time, and is behind it
// by no more than a look took, most of the time less than a microsecond.
type bootReader struct {
	clocks func() (wall, mono int64) // of one moment
	boot   func() int64              // by a system call
	last   atomic.Pointer[bootLooked]
}

// bootLooked is what was found at a look.
type bootLooked struct {
	mono   int64
	wall   int64 // less mono
	offset int64 // of boot time from mono, never more than it is
}

const (
	bootLook    = 10 * time.Millisecond // of the monotonic clock: when to look anew
	leastJump   = time.Millisecond      // of the wall clock: it was set, or there was a suspend
	narrowLook  = 20 * time.Microsecond // what a look should take
	narrowTries = 8                     // to get one that does

	// otherClock is by how much the offset cannot seem to shrink, however long
	// a look takes: Go's clock is not that of the process, as within a bubble
	// of testing/synctest.
	otherClock = time.Hour
)

func newBootReader(clocks func() (wall, mono int64), boot func() int64) *bootReader {
	r := &bootReader{clocks: clocks, boot: boot}
	r.look()
	return r
}

func (r *bootReader) now() Instant {
	wall, mono := r.clocks()
	k := r.last.Load()
	if within(mono-k.mono, bootLook) && within(wall-mono-k.wall, leastJump) {
		return Instant(mono + k.offset)
	}
	return r.look()
}

func within(n int64, most time.Duration) bool { return -int64(most) < n && n < int64(most) }

// look asks the kernel.
func (r *bootReader) look() Instant {
	var boot, wall, mono int64
	for range narrowTries {
		_, before := r.clocks()
		boot = r.boot()
		wall, mono = r.clocks()
		if mono-before < int64(narrowLook) {
			break
		}
	}
	// Boot time was read before mono, so it is not more than this much ahead.
	found := &bootLooked{mono: mono, wall: wall - mono, offset: boot - mono}
	for {
		k := r.last.Load()
		if k != nil && found.offset < k.offset {
			if k.offset-found.offset > int64(otherClock) {
				return Instant(boot)
			}
			found.offset = k.offset // it never shrinks
		}
		if r.last.CompareAndSwap(k, found) {
			return Instant(mono + found.offset)
		}
	}
}
