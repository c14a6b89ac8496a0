package cli

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/queue"
)

// drainForever lets running commands finish after Ctrl-C: it is the second
// Ctrl-C that ends them.
const drainForever = time.Duration(math.MaxInt64)

// execution runs a command for each delivery of one `consume --exec`.
type execution struct {
	*consuming
	stop context.CancelFunc // no more deliveries
	kill context.Context    // ends at the second signal

	mu       sync.Mutex
	started  int // commands that run or have run, and count
	finished int
	timer    *time.Timer // of --idle, nil without; stopped while a command runs
	running  int
}

func (c *consuming) execEach(ctx context.Context, queues *queue.Broker) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	kill, killAll := context.WithCancel(context.Background())
	defer killAll()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	e := &execution{consuming: c, stop: stop, kill: kill}
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(watched)
		e.watch(signals, killAll, over)
	}()
	if c.idle > 0 {
		e.timer = time.AfterFunc(c.idle, stop)
		defer e.timer.Stop()
	}
	o := &queue.ServeOptions{Concurrency: c.concurrency, Prefetch: c.concurrency, Consumer: consumerName(), DrainTimeout: drainForever}
	err := queues.Serve(ctx, c.queue, e.handle, o)
	close(over)
	<-watched
	return err
}

// watch stops receiving at the first signal and ends the commands at the
// second.
func (e *execution) watch(signals <-chan os.Signal, killAll func(), over <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-signals:
		case <-over:
			return
		}
		if n > 0 {
			killAll()
			continue
		}
		e.stop()
		if running := e.commands(); running > 0 {
			e.say("waiting for %s to finish; Ctrl-C again ends it", plural(int64(running), "command"))
		}
	}
}

func (e *execution) commands() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running
}

// handle runs the command for one delivery.
func (e *execution) handle(ctx context.Context, d *queue.Delivery) error {
	if !e.begin() {
		return queue.ErrRelease
	}
	released := false
	defer func() { e.end(released) }()
	cmd := exec.Command("/bin/sh", "-c", e.exec) //nolint:gosec,noctx // ended by child.Stop, with grace; running the user's command is what --exec is for
	cmd.Env = append(os.Environ(), deliveryEnv(d)...)
	cmd.Stdin = bytes.NewReader(d.Message.Body)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = e.grace // for a pipe that something in the background still reads
	// A group of its own, so that a terminal's Ctrl-C reaches only us and
	// the command can finish.
	p, err := child.Start(cmd, true)
	if err != nil {
		e.say("cannot run the command: %v", err)
		released = true
		e.stop() // the next one would not start either
		return fmt.Errorf("%w: %w", queue.ErrRelease, err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(e.grace)
		e.say("message %s: the lease was lost, the command was ended: %v", d.Message.ID, context.Cause(ctx))
		released = true
		return context.Cause(ctx)
	case <-e.kill.Done():
		p.Stop(e.grace)
		released = true
		return queue.ErrRelease
	}
	if status := p.Status(); status != 0 {
		e.say("message %s, attempt %d: the command ended with status %d", d.Message.ID, d.Attempt, status)
		return fmt.Errorf("exit status %d", status)
	}
	return nil
}

// begin admits a command unless --count of them were.
func (e *execution) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count > 0 && e.started >= e.count {
		return false
	}
	e.started++
	e.running++
	if e.timer != nil {
		e.timer.Stop()
	}
	return true
}

// end counts a command that has ended; one whose message was handed back
// makes room for another.
func (e *execution) end(released bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running--
	if released {
		e.started--
	} else {
		e.finished++
	}
	if e.count > 0 && e.finished >= e.count {
		e.stop()
	}
	if e.timer != nil && e.running == 0 {
		e.timer.Reset(e.idle)
	}
}
