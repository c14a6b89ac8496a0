package lease

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how late a timer may be that could not get a timerfd.
const pollInterval = 100 * time.Millisecond

// SystemClock returns the clock to judge leases by: it never goes back and it
// runs on while the machine is suspended. On Linux it is CLOCK_BOOTTIME, with
// a timerfd for each timer; elsewhere it is put together from the monotonic
// and the wall clock, and a step of the wall clock forwards ends leases early.
func SystemClock() Clock { return bootClock{} }

type bootClock struct{}

func (bootClock) Now() Instant { return systemBoot.now() }

var systemBoot = newBootReader(goNow, bootTime)

var goOrigin = time.Now()

func goNow() (wall, mono int64) {
	now := time.Now()
	return now.UnixNano(), int64(now.Sub(goOrigin))
}

func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had it since 2.6.39, before what Go runs on.
		panic("lease: clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return ts.Nano()
}

// NewTimer falls back to looking at the clock every pollInterval if the
// process is out of file descriptors: late is better than never.
func (c bootClock) NewTimer() Timer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newPollTimer(c.Now, pollInterval)
	}
	t := &fdTimer{fd: fd, file: os.NewFile(uintptr(fd), "timerfd"), c: make(chan struct{}, 1), done: make(chan struct{})}
	go t.run()
	return t
}

// fdTimer is a timerfd and the goroutine that reads it through the runtime's
// poller.
type fdTimer struct {
	fd   int // owned by file
	file *os.File
	c    chan struct{}
	done chan struct{}
}

func (t *fdTimer) C() <-chan struct{} { return t.c }

func (t *fdTimer) Reset(at Instant) {
	// Zero would disarm it.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(at)))}
	if err := unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		panic("lease: timerfd_settime: " + err.Error())
	}
}

func (t *fdTimer) Stop() {
	_ = t.file.Close() // ends the read; a second Close is an error without effect
	<-t.done
}

func (t *fdTimer) run() {
	defer close(t.done)
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return // closed: a timerfd has no other error for a whole read
		}
		tick(t.c)
	}
}
