package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
)

const (
	// daemonStart bounds the start of the demo's daemon.
	daemonStart = 30 * time.Second
	// Time between two disturbances.
	minCalm = 500 * time.Millisecond
	maxCalm = 2 * time.Second
)

// minion is a process of the demo. It is this program again, with other
// arguments, and does not outlive it.
type minion struct {
	name string
	args []string
	url  string // of the daemon

	mu      sync.Mutex
	process *child.Process
}

// start starts the process, or starts it again.
func (m *minion) start() error { return m.startWith(nil) }

func (m *minion) startWith(stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, m.args...) //nolint:gosec,noctx // this program itself; it is killed by kill()
	cmd.Stdout = stdout
	// What it logs about a daemon that is gone is what the demo is about;
	// it would hide the rest.
	cmd.Stderr = nil
	p, err := child.Start(cmd, true)
	if err != nil {
		return fmt.Errorf("starting %s: %w", m.name, err)
	}
	m.mu.Lock()
	m.process = p
	m.mu.Unlock()
	return nil
}

func (m *minion) signal(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		_ = m.process.Signal(s)
	}
}

// kill ends it as a power failure would.
func (m *minion) kill() {
	m.mu.Lock()
	p := m.process
	m.process = nil
	m.mu.Unlock()
	if p != nil {
		_ = p.Signal(syscall.SIGKILL)
		<-p.Done()
	}
}

// startDaemon starts a daemon with its store in dir, on a free port.
func startDaemon(ctx context.Context, dir string) (*minion, error) {
	m := &minion{name: "the daemon", args: []string{
		"serve", "--json", "--log-level", "error", "--data", dir + "/store", "--listen", "127.0.0.1:0",
	}}
	if err := m.serve(ctx); err != nil {
		return nil, err
	}
	u, err := url.Parse(m.url)
	if err != nil {
		return nil, err
	}
	m.args[len(m.args)-1] = u.Host // the same port after a kill
	return m, nil
}

// serve starts the daemon and returns when it serves.
func (m *minion) serve(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was only read
	err = errors.Join(m.startWith(w), w.Close())
	if err != nil {
		return err
	}
	ready := make(chan error, 1)
	go func() {
		var greeting servingJSON
		line, err := bufio.NewReader(r).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &greeting)
		}
		m.url = greeting.URL
		ready <- err
	}()
	ctx, cancel := context.WithTimeout(ctx, daemonStart)
	defer cancel()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("the daemon did not start: %w", err)
		}
		return nil
	case <-ctx.Done():
		m.kill() // closes the pipe, which ends the reader
		return errors.Join(errors.New("the daemon did not start in time"), <-ready)
	}
}

// disturbances are done in turn, so that also a short demo has one of each;
// what is hit, and when, is random.
var disturbances = []string{"service", "daemon", "pause", "service"}

// disturb kills and pauses at random until ctx ends. When it returns all
// processes run.
func (d *demo) disturb(ctx context.Context) error {
	for i := 0; !d.calm; i++ {
		select {
		case <-time.After(minCalm + rand.N(maxCalm-minCalm)):
		case <-ctx.Done():
			return nil
		}
		w := d.workers[rand.IntN(len(d.workers))]
		what := disturbances[i%len(disturbances)]
		d.kills[what]++
		var err error
		switch what {
		case "daemon":
			err = d.killDaemon(ctx)
		case "pause":
			d.pause(ctx, w)
		default:
			d.board.is(w, "killed")
			w.kill()
			d.board.happened("killed %s and started it again", w.name)
			err = w.start()
			d.board.is(w, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) killDaemon(ctx context.Context) error {
	d.board.is(d.daemon, "killed")
	defer d.board.is(d.daemon, "")
	d.board.happened("killing the daemon")
	d.daemon.kill()
	began := time.Now()
	if err := d.daemon.serve(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	d.slowest = max(d.slowest, time.Since(began))
	d.board.happened("the daemon serves again after %s", brief(time.Since(began)))
	return nil
}

// pause stops a service for longer than its locks live, as a long garbage
// collection or a machine under migration would.
func (d *demo) pause(ctx context.Context, w *minion) {
	d.board.is(w, "paused")
	defer d.board.is(w, "")
	d.board.happened("pausing %s for %v", w.name, pauseFor)
	w.signal(syscall.SIGSTOP)
	defer w.signal(syscall.SIGCONT)
	select {
	case <-time.After(pauseFor):
	case <-ctx.Done():
	}
}

// stopAll ends all processes. It may be called again.
func (d *demo) stopAll() {
	for _, w := range d.workers {
		w.kill()
	}
	if d.daemon != nil {
		d.daemon.kill()
	}
}
