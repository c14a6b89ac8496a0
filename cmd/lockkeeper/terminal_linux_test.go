package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/cli/live/livetest"
)

// terminal is a pseudo-terminal at which a person sits.
type terminal struct {
	*livetest.Terminal
	t       *testing.T
	awaited string
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	term := &terminal{Terminal: livetest.OpenTerminal(t), t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal, when %q was awaited last:\n%s", term.awaited, term.History())
		}
	})
	return term
}

// run starts lockkeeper in the terminal's foreground.
func (term *terminal) run(u string, args ...string) *running {
	term.t.Helper()
	cmd := command(u, args...)
	cmd.Stdin = term.Program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	return begin(term.t, cmd)
}

// shell starts an interactive shell in the terminal. It keeps the terminal
// when a command has ended: the end of a session's first process would hang
// it up, with all that was printed last.
func (term *terminal) shell(u string) {
	term.t.Helper()
	cmd := exec.Command("sh", "-i")
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+u, "PS1=$ ", "ENV=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.Program, term.Program, term.Program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	begin(term.t, cmd)
	term.shows("a prompt", func(s string) bool { return strings.HasSuffix(s, "$") })
}

// enter types a lockkeeper command, and returns its process id.
func (term *terminal) enter(args ...string) (pid func() int) {
	term.t.Helper()
	file := filepath.Join(term.t.TempDir(), "pid")
	term.Press(fmt.Sprintf("sh -c 'echo $$ > %s; exec %s %s'; echo status $?.\n", file, binary, strings.Join(args, " ")))
	return func() int {
		var pid int
		eventually(term.t, "the command runs", func() bool {
			text, _ := os.ReadFile(file)
			n, _ := fmt.Sscanln(string(text), &pid)
			return n == 1
		})
		return pid
	}
}

// shows waits until the screen satisfies ok.
func (term *terminal) shows(what string, ok func(screen string) bool) {
	term.t.Helper()
	term.awaited = what
	eventually(term.t, what, func() bool { return ok(term.String()) })
}

func has(parts ...string) func(string) bool {
	return func(screen string) bool {
		for _, part := range parts {
			if !strings.Contains(screen, part) {
				return false
			}
		}
		return true
	}
}

// restored waits until the command has ended with a status and left the
// terminal as it found it.
func (term *terminal) restored(status int) {
	term.t.Helper()
	term.shows("the shell has the terminal again", func(s string) bool {
		return strings.HasSuffix(s, fmt.Sprintf("status %d.\n$", status))
	})
	if left := term.Modes(); len(left) > 0 {
		term.t.Errorf("left behind: %v", left)
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
	term.Press("\x03")
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
	p.Press("hello\n")
	if got := r.wait(); got.status != 0 || !strings.Contains(got.out, "read hello") {
		t.Errorf("status %d, %q: %s", got.status, got.out, got.err)
	}
}

// A live table on a terminal of any size; the keys that scroll and end it.
func TestWatchQueuesInATerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for _, name := range []string{"q-1", "q-2", "q-3", "q-4"} {
		must(t, d.url, "", "declare", "queue", name)
	}
	term := openTerminal(t)
	term.shell(d.url)
	term.enter("queues", "--watch", "--interval", "50ms")
	term.shows("all queues", has("lockkeeper queues", "NAME", "READY", "q-1", "q-4", "q quits"))
	must(t, d.url, "", "publish", "", "q-2", "x")
	term.shows("the message", has("q-2       1"))
	term.Resize(40, 6)
	term.shows("it fits", func(s string) bool {
		return strings.Contains(s, "q-2") && !strings.Contains(s, "q-3") && strings.Contains(s, "2 more below") && !strings.Contains(s, "NACKED")
	})
	term.Press("\x1b[B\x1b[B")
	term.shows("it scrolled", func(s string) bool {
		return strings.Contains(s, "q-4") && !strings.Contains(s, "q-2") && strings.Contains(s, "2 more above")
	})
	term.Resize(100, 20)
	d.kill()
	term.shows("it says so", has("no answer for", "connection refused", "q-4"))
	d.start()
	term.shows("it goes on", func(s string) bool { return !strings.Contains(s, "no answer") && strings.Contains(s, "q-1") })
	term.Press("\x1a")
	term.shows("the shell has the terminal", func(s string) bool { return strings.Contains(s, "Stopped") && !strings.Contains(s, "q-1") })
	term.Press("fg; echo status $?.\n")
	term.shows("it is back", has("q-1", "q-4"))
	term.Press("q")
	term.restored(0)
	if s := term.String(); strings.Contains(s, "q-1") {
		t.Errorf("left on the screen:\n%s", s)
	}

	// A signal from outside, and a server that is not there.
	pid := term.enter("queues", "--watch")
	term.shows("all queues", has("q-1"))
	if err := syscall.Kill(pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.restored(0)
	d.kill()
	term.enter("queues", "--watch")
	term.restored(1)
	term.shows("the error stays", has("connection refused", "lockkeeper serve"))
}

// The live table of locks shows changes as they come, and outlasts that the
// daemon is away.
func TestWatchLocksInATerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	term := openTerminal(t)
	term.Resize(160, 20)
	term.shell(d.url)
	term.enter("locks", "--watch", "--interval", "1h")
	term.shows("nothing", has("lockkeeper locks", "as it changes", "no locks are held", "q quits"))
	p := begin(t, command(d.url, "lock", "--ttl", "5s", "--meta", "who=me", "k", "--", "sleep", "60"))
	term.shows("the lock", has("ENDS IN", "k     exclusive", "who=me", "<= 5s"))
	begin(t, command(d.url, "lock", "k", "--", "true"))
	term.shows("who waits", func(s string) bool {
		_, line, _ := strings.Cut(s, "<= 5s")
		waiting, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		return waiting == "1"
	})
	d.kill()
	term.shows("it says so", has("no answer for", "connection refused", "who=me"))
	d.start()
	term.shows("it goes on", func(s string) bool { return !strings.Contains(s, "no answer") && strings.Contains(s, "who=me") })
	p.signal(syscall.SIGTERM)
	term.shows("nothing again", has("no locks are held"))
	term.Press("q")
	term.restored(0)
	d.kill()
	term.enter("locks", "--watch")
	term.restored(1)
	term.shows("the error stays", has("connection refused", "lockkeeper serve"))
}
