// Package realserver starts and stops the real servers that drivers are tested
// against: on free ports of the loopback, in temporary directories, single and
// clustered.
//
// A function such as StartRedis returns when the server answers its own
// protocol, or fails the test with the server's log. What a test started ends
// with it. What all tests of a package share ends with Run, which TestMain
// calls. Should the test binary be killed, its servers are killed by the
// kernel (on Linux), and their directories are removed by the next run.
//
// A program that is missing is installed with apt-get, if the tests run as
// root; Java servers are fetched by Maven. Otherwise the test fails and says
// what to install. Nothing is skipped.
//
// # Faults
//
// Server has the verbs of fault tests: Kill is a crash, Pause a machine that
// hangs, Start brings either back on the same port and directory. A failover
// is a Kill of the primary and AwaitPrimary of another.
//
// # Another kind of server
//
// A kind is a function that fills in a Spec: the command, and a probe that
// speaks the server's protocol once. Everything else is here.
package realserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
)

// Bounds of waits.
const (
	DefaultReady = 2 * time.Minute // for a server to answer
	stopGrace    = 5 * time.Second // between SIGTERM and SIGKILL
	probeTime    = time.Second     // of one probe
	probeEvery   = 20 * time.Millisecond
)

// logTail is how many bytes of a server's log a failure shows.
const logTail = 8 << 10

// Spec is how one server is run.
type Spec struct {
	Name    string   // for messages: "redis"
	Command []string // the program and its arguments; it must stay in the foreground
	Env     []string // besides the environment of the tests
	Dir     string   // where it runs and writes
	Addr    string   // what clients connect to

	// Probe asks once, in the server's own protocol, whether it serves.
	Probe func(ctx context.Context) error

	Ready time.Duration // how long it may take to serve; 0: DefaultReady
}

// Server is one server process. Its methods may be called concurrently.
type Server struct {
	spec Spec

	mu      sync.Mutex
	process *child.Process
}

// Start starts a server and stops it when the test ends.
func Start(t testing.TB, spec Spec) *Server {
	t.Helper()
	s := &Server{spec: spec}
	t.Cleanup(s.Stop)
	s.Start(t)
	return s
}

// Addr returns the address that clients connect to.
func (s *Server) Addr() string { return s.spec.Addr }

// Pid returns the id of the process.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Pid()
}

// Start starts the server, again if it was killed, and returns when it serves.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.launch(); err != nil {
		t.Fatalf("start %s: %v", s.spec.Name, err)
	}
	if err := s.awaitReady(t.Context()); err != nil {
		t.Fatalf("%s at %s does not serve: %v\nits log ends with:\n%s", s.spec.Name, s.spec.Addr, err, s.Log())
	}
}

func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runsLocked() {
		return errors.New("it runs already")
	}
	if err := os.MkdirAll(s.spec.Dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                                             //nolint:errcheck // the process has its own
	cmd := exec.Command(s.spec.Command[0], s.spec.Command[1:]...) //nolint:gosec,noctx // the caller names what to run; it is stopped by Stop
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.spec.Dir, log, log
	cmd.Env = append(os.Environ(), s.spec.Env...)
	process, err := child.Start(cmd, true)
	if err != nil {
		return err
	}
	s.process = process
	return nil
}

// runs reports whether the process was started and has not ended.
func (s *Server) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runsLocked()
}

func (s *Server) runsLocked() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Done():
		return false
	default:
		return true
	}
}

func (s *Server) logPath() string { return filepath.Join(s.spec.Dir, "server.log") }

// Log returns the end of the server's log.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

// awaitReady probes until the server serves, has died, or its time is over.
func (s *Server) awaitReady(ctx context.Context) error {
	limit := s.spec.Ready
	if limit == 0 {
		limit = DefaultReady
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.mu.Lock()
	ended := s.process.Done()
	s.mu.Unlock()
	return poll(ctx, ended, s.spec.Probe)
}

// poll calls probe until it succeeds. ended, which may be nil, is closed when
// there is nothing to hope for.
func poll(ctx context.Context, ended <-chan struct{}, probe func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, probeTime)
		err := probe(once)
		cancel()
		if err == nil {
			return nil
		}
		timer := time.NewTimer(probeEvery)
		select {
		case <-timer.C:
		case <-ended:
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Await probes until a condition holds, and fails the test after limit.
func Await(t testing.TB, limit time.Duration, what string, probe func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := poll(ctx, nil, probe); err != nil {
		t.Fatalf("it never came that %s: %v", what, err)
	}
}

// Kill ends the process at once, as a crash does, and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	s.mu.Lock()
	done := s.process.Done()
	s.mu.Unlock()
	<-done
}

// Pause stops the process in its tracks: its connections stay, and nothing
// answers. Continue lets it run on.
func (s *Server) Pause(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

// Restart is a crash and a start on the same port and directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill(t)
	s.Start(t)
}

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.Signal(sig); err != nil {
		t.Fatalf("signal %v to %s: %v", sig, s.spec.Name, err)
	}
}

// Stop ends the server in an orderly way, within bounds. It is idempotent.
func (s *Server) Stop() {
	s.mu.Lock()
	process := s.process
	s.mu.Unlock()
	if process != nil {
		process.Stop(stopGrace)
	}
}
