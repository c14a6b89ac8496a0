package child

import (
	"os"

	"golang.org/x/sys/unix"
)

// InForeground reports whether the calling process belongs to the foreground
// process group of a terminal: then Ctrl-C reaches all of that group by
// itself, and a child outside of it would be stopped when it reads from the
// terminal.
func InForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close() //nolint:errcheck // it was only asked
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
