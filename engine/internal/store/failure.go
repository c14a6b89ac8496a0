package store

import (
	"fmt"
	"log/slog"
	"sync"
)

// failure is the first thing that went wrong for good.
type failure struct {
	done chan struct{} // closed once err is set

	once sync.Once
	err  error
	log  *slog.Logger
}

func newFailure(log *slog.Logger) *failure { return &failure{done: make(chan struct{}), log: log} }

// set records err if it is the first.
func (f *failure) set(err error) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: %w", ErrFailed, err)
		close(f.done)
		f.log.Error("store failed; nothing more is written", "err", err)
	})
}

func (f *failure) failed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// get returns the failure wrapped in ErrFailed, or nil.
func (f *failure) get() error {
	if f.failed() {
		return f.err
	}
	return nil
}

// pebbleLogger is Pebble's way to speak. Pebble calls Fatalf on the goroutine
// that finds that it cannot go on (one that commits, flushes, compacts or
// reads) and expects it not to return; this one records the failure and
// returns, so that the process lives.
type pebbleLogger struct {
	log     *slog.Logger
	failure *failure
}

// Infof drops Pebble's account of what it does: it is in the metrics.
func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.failure.set(fmt.Errorf(format, args...))
}
