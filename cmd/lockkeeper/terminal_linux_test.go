package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is the end of a new pseudo-terminal at which a person sits.
type terminal struct {
	t       *testing.T
	keys    *os.File
	program *os.File // the other end
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
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
	t.Cleanup(func() { program.Close() })
	go func() { _, _ = io.Copy(io.Discard, keys) }() // the echo; ends with keys
	return &terminal{t, keys, program}
}

// run starts lockkeeper in the terminal's foreground.
func (term *terminal) run(u string, args ...string) *running {
	term.t.Helper()
	cmd := command(u, args...)
	cmd.Stdin = term.program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	return begin(term.t, cmd)
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// TestLockInATerminal: Ctrl-C reaches the command from the terminal, and not a
// second time from lockkeeper.
func TestLockInATerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	dir := t.TempDir()
	term := openTerminal(t)
	p := term.run(d.url, "lock", "k", "--", "sh", "-c", `cd "$0"; n=0; trap 'echo caught >> caught; n=1' INT; touch ready
while [ $n = 0 ]; do sleep 0.01; done
sleep 0.3; trap - INT; kill -INT $$`, dir)
	eventually(t, "the command runs", func() bool { _, err := os.Stat(filepath.Join(dir, "ready")); return err == nil })
	term.press("\x03")
	if r := p.wait(); r.status != 130 {
		t.Errorf("status %d, want 130: %s", r.status, r.err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "caught")); err != nil || string(text) != "caught\n" {
		t.Errorf("the command caught %q, %v; want it once", text, err)
	}
	if out := must(t, d.url, "", "locks"); out != "no locks are held\n" {
		t.Errorf("left behind:\n%s", out)
	}
}

// TestLockReadsFromTheTerminal: the command is in the foreground itself, or
// the terminal would stop it.
func TestLockReadsFromTheTerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	p := openTerminal(t)
	r := p.run(d.url, "lock", "k", "--", "sh", "-c", `read -r line; echo "read $line"`)
	p.press("hello\n")
	if got := r.wait(); got.status != 0 || !strings.Contains(got.out, "read hello") {
		t.Errorf("status %d, %q: %s", got.status, got.out, got.err)
	}
}
