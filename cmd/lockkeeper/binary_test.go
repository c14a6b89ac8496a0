package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// These tests run the built binary as a person and a script would. With the
// race detector on, the binary has it too.

var (
	binary   string // path of lockkeeper
	raceFlag = "-race=false"
)

// patience bounds whatever a test waits for; it is for a loaded machine.
const patience = 60 * time.Second

// pagePatience bounds a page of docs/ or the README's tour: dozens of commands,
// each a process of a binary that the race detector slows down.
const pagePatience = 5 * time.Minute

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lockkeeper-test-")
	if err == nil {
		err = os.Unsetenv("LOCKKEEPER_URL")
	}
	if err == nil && os.Getenv("GORACE") == "" {
		// Otherwise each process of the binary sleeps a second before it ends.
		err = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "lockkeeper")
	if out, err := exec.Command("go", "build", raceFlag, "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building lockkeeper: %v\n%s", err, out)
		return 1
	}
	// The tests wait for processes and for the disk, not for a processor.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return realserver.Run(m)
}

// result is what a finished command left.
type result struct {
	out, err string
	status   int
}

// command makes a lockkeeper command that acts on u.
func command(u string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+u)
	return cmd
}

// run runs lockkeeper to its end.
func run(t *testing.T, u, stdin string, args ...string) result {
	t.Helper()
	cmd := command(u, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	p := begin(t, cmd)
	return p.wait()
}

// must runs lockkeeper and wants success.
func must(t *testing.T, u, stdin string, args ...string) string {
	t.Helper()
	r := run(t, u, stdin, args...)
	if r.status != 0 {
		t.Fatalf("lockkeeper %q: status %d\n%s%s", args, r.status, r.out, r.err)
	}
	return r.out
}

// running is a command under way.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err output
	done     chan struct{}
}

// output collects what a process writes while others look at it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// begin starts a command; it is killed with the test.
func begin(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	p := &running{t: t, cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.err
	}
	// What a killed command leaves behind may hold its output open.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

func (p *running) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

func (p *running) wait() result {
	p.t.Helper()
	return p.waitFor(patience)
}

func (p *running) waitFor(limit time.Duration) result {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.done
		p.t.Fatalf("%q does not end\n%s%s", p.cmd.Args, p.out.String(), p.err.String())
	}
	status := p.cmd.ProcessState.ExitCode()
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return result{p.out.String(), p.err.String(), status}
}

// eventually polls a condition that another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // another process has no channel to wait on
	}
}

// daemon is a real `lockkeeper serve` that can be killed and started again on
// the same port and store.
type daemon struct {
	t    *testing.T
	url  string
	data string
	args []string
	p    *running
}

// startDaemon starts a daemon on a new store that takes short TTLs.
func startDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, data: filepath.Join(t.TempDir(), "store")}
	d.args = append([]string{"--data", "file://" + d.data + "?min_ttl=100ms", "--listen", "127.0.0.1:0"}, args...)
	d.start()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	d.args[3] = u.Host
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary, append([]string{"serve", "--json"}, d.args...)...)
	cmd.Stdout = w
	d.p = begin(d.t, cmd)
	w.Close()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		d.p.wait()
		d.t.Fatalf("the daemon did not start: %s", d.p.err.String())
	}
	var greeting struct{ URL string }
	if err := json.Unmarshal(line, &greeting); err != nil {
		d.t.Fatalf("greeting %q: %v", line, err)
	}
	d.url = greeting.URL
}

// kill is SIGKILL.
func (d *daemon) kill() {
	d.p.signal(syscall.SIGKILL)
	<-d.p.done
}
