package child

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, ownGroup bool, script string) (*Process, *bufio.Reader) {
	t.Helper()
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = w
	p, err := Start(cmd, ownGroup)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p, bufio.NewReader(out)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("reading the child's output: %v", err)
	}
	return strings.TrimSuffix(s, "\n")
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"kill -TERM $$", 128 + 15},
		{"kill -KILL $$", 128 + 9},
	} {
		p, _ := start(t, true, tt.script)
		<-p.Done()
		if got := p.Status(); got != tt.want {
			t.Errorf("%q: status %d, want %d", tt.script, got, tt.want)
		}
	}
}

func TestStartStatus(t *testing.T) {
	plain := t.TempDir() + "/plain"
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/nowhere/at/all":         StatusNotFound,
		"no-such-command-in-path": StatusNotFound,
		plain:                     StatusCannotRun,
	} {
		_, err := Start(exec.Command(path), true)
		if err == nil {
			t.Fatalf("%s started", path)
		}
		if got := StartStatus(err); got != want {
			t.Errorf("%s: status %d (%v), want %d", path, got, err, want)
		}
	}
}

func TestSignalReachesTheCommand(t *testing.T) {
	p, out := start(t, true, `trap 'echo got usr1; exit 3' USR1; echo ready; while :; do sleep 0.01; done`)
	line(t, out)
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := line(t, out); got != "got usr1" {
		t.Fatalf("the child wrote %q", got)
	}
	<-p.Done()
	if p.Status() != 3 {
		t.Fatalf("status %d, want 3", p.Status())
	}
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		t.Fatalf("signal to a command that has ended: %v", err)
	}
}

func TestStopGivesGraceThenKills(t *testing.T) {
	polite, out := start(t, true, `trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done`)
	line(t, out)
	polite.Stop(time.Minute)
	if polite.Status() != 4 {
		t.Errorf("polite child: status %d, want 4", polite.Status())
	}
	stubborn, out := start(t, true, `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	line(t, out)
	stubborn.Stop(50 * time.Millisecond)
	if want := 128 + 9; stubborn.Status() != want {
		t.Errorf("stubborn child: status %d, want %d", stubborn.Status(), want)
	}
}

func TestStopReachesAStoppedCommand(t *testing.T) {
	p, out := start(t, true, `trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done`)
	line(t, out)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Stop(time.Minute)
	if p.Status() != 4 {
		t.Errorf("status %d, want 4", p.Status())
	}
}

// The pipe's write end is held by the grandchild: end of file means that it
// is gone too.
func TestStopKillsTheWholeGroup(t *testing.T) {
	p, out := start(t, true, `sh -c 'trap "" TERM; echo ready; while :; do sleep 0.01; done' & wait`)
	line(t, out)
	p.Stop(50 * time.Millisecond)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, out)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, os.ErrClosed) {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a grandchild outlived Stop")
	}
}
