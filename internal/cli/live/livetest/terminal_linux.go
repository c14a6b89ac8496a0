package livetest

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Terminal is a new pseudo-terminal with a person at its other end.
type Terminal struct {
	*Emulator
	Program *os.File // the end at which a program reads and writes
	keys    *os.File
	t       *testing.T
}

// OpenTerminal opens one of 80 columns and 24 lines; it is closed with the test.
func OpenTerminal(t *testing.T) *Terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &Terminal{Emulator: NewEmulator(80, 24), Program: program, keys: keys, t: t}
	term.Resize(80, 24)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(term.Emulator, keys) // ends when no program has the terminal
	}()
	t.Cleanup(func() {
		_ = program.Close()
		<-done
		_ = keys.Close()
	})
	return term
}

// Press types keys.
func (term *Terminal) Press(keys string) {
	term.t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// Resize gives the terminal another size and tells the program in the
// foreground.
func (term *Terminal) Resize(width, height int) {
	term.t.Helper()
	term.Emulator.Resize(width, height)
	size := unix.Winsize{Col: uint16(width), Row: uint16(height)}
	if err := unix.IoctlSetWinsize(int(term.keys.Fd()), unix.TIOCSWINSZ, &size); err != nil {
		term.t.Fatal(err)
	}
}
