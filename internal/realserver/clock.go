package realserver

import (
	_ "embed"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A C file in a Go package needs cgo, so it has another ending.
//
//go:embed clock/offset.c.txt
var clockSource []byte

// wallClock is a wall clock for one server, off by what a file says.
type wallClock struct{ file, shim string }

// newClock compiles the library that brings a server its clock.
func newClock(t testing.TB, dir string) *wallClock {
	t.Helper()
	c := &wallClock{file: filepath.Join(dir, "clock"), shim: filepath.Join(dir, "clock.so")}
	source := filepath.Join(dir, "clock.c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := output(t.Context(), need(t, "cc", "gcc"), "-shared", "-fPIC", "-O1", "-o", c.shim, source)
	if err != nil {
		t.Fatalf("compile the clock: %v\n%s", err, out)
	}
	c.set(t, 0)
	return c
}

func (c *wallClock) env() []string {
	return []string{"LD_PRELOAD=" + c.shim, "LOCKKEEPER_CLOCK=" + c.file}
}

// set writes the offset in place: the server has the file mapped.
func (c *wallClock) set(t testing.TB, offset time.Duration) {
	t.Helper()
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset.Microseconds())), 0)
	if err2 := f.Close(); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
}
