package realserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
)

// Standalone starts servers for a program that is no test: start is given a TB
// whose Fatal ends it with an error, and whose context is ctx. When start has
// returned the servers run until ctx ends; then they are stopped, and what they
// wrote is removed.
func Standalone(ctx context.Context, start func(t testing.TB)) error {
	t := &standalone{ctx: ctx}
	done := make(chan struct{})
	go func() { // Fatal ends a goroutine
		defer close(done)
		start(t)
		t.started = true
	}()
	<-done
	if t.started {
		<-ctx.Done()
	}
	for _, stop := range slices.Backward(t.stops) {
		stop()
	}
	return errors.Join(t.err, removeRoot())
}

// standalone is a TB without a test. It is used by one goroutine.
type standalone struct {
	testing.TB
	ctx     context.Context //nolint:containedctx // it is what Context returns
	stops   []func()
	started bool
	err     error
}

// Helper implements testing.TB.
func (s *standalone) Helper() {}

// Context implements testing.TB.
func (s *standalone) Context() context.Context { return s.ctx }

// Cleanup implements testing.TB.
func (s *standalone) Cleanup(f func()) { s.stops = append(s.stops, f) }

// TempDir implements testing.TB. It is removed with all that servers wrote.
func (s *standalone) TempDir() string {
	dir := newDir(s, "temp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.Fatal(err)
	}
	return dir
}

// Fatal implements testing.TB.
func (s *standalone) Fatal(args ...any) {
	s.err = errors.Join(s.err, errors.New(fmt.Sprint(args...)))
	runtime.Goexit()
}

// Fatalf implements testing.TB.
func (s *standalone) Fatalf(format string, args ...any) {
	s.Fatal(fmt.Sprintf(format, args...))
}
