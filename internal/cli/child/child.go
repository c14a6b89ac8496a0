// Package child runs a command under supervision: signals reach it, it can be
// ended with SIGTERM and then SIGKILL, and it does not outlive a supervisor
// that is itself killed (Linux only, and only the command, not what it
// started).
//
// A child with OwnGroup leads a process group of its own, and everything here
// acts on the whole group. Without it the child stays in the group of its
// supervisor, which is what a program needs that reads from the terminal: only
// the foreground group may. Then everything here acts on the command alone.
package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Exit statuses of a command that did not start, by the shell's convention.
const (
	StatusCannotRun = 126
	StatusNotFound  = 127
	statusSignal    = 128 // plus the number of the signal
)

// groupPoll is how often Stop looks whether a group is empty whose leader has
// ended: nothing announces that.
const groupPoll = 10 * time.Millisecond

// Process is a running command. Its methods may be called concurrently.
type Process struct {
	cmd      *exec.Cmd
	ownGroup bool
	done     chan struct{}
}

// Start starts cmd, whose SysProcAttr it sets. One operating system thread is
// kept for each running command.
func Start(cmd *exec.Cmd, ownGroup bool) (*Process, error) {
	p := &Process{cmd: cmd, ownGroup: ownGroup, done: make(chan struct{})}
	cmd.SysProcAttr = attributes(ownGroup)
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that
		// started the command ends, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// How it ended is in cmd.ProcessState; what else Wait reports is
		// about pipes that something it left behind holds open.
		_ = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Done is closed when the command has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid returns the command's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends sig. A command that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	var err error
	if p.ownGroup {
		err = syscall.Kill(-p.Pid(), sig)
	} else {
		err = p.cmd.Process.Signal(sig)
	}
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop ends the command: SIGTERM, then SIGKILL once grace has passed. It
// returns when the command has ended, and with OwnGroup has killed what was
// left of its group.
func (p *Process) Stop(grace time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	_ = p.Signal(syscall.SIGCONT) // a stopped one would not see the SIGTERM
	timer := time.NewTimer(grace)
	defer timer.Stop()
	if p.ended(timer.C) {
		return
	}
	if p.ownGroup {
		// The group's id cannot be taken again while it has a member, and
		// ended has just seen one.
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	} else {
		_ = p.Signal(syscall.SIGKILL)
	}
	<-p.done
}

// ended waits for the command and the rest of its group until timeout.
func (p *Process) ended(timeout <-chan time.Time) bool {
	select {
	case <-p.done:
	case <-timeout:
		return false
	}
	if !p.ownGroup {
		return true
	}
	poll := time.NewTicker(groupPoll)
	defer poll.Stop()
	for {
		if err := syscall.Kill(-p.Pid(), 0); errors.Is(err, syscall.ESRCH) {
			return true
		}
		select {
		case <-poll.C:
		case <-timeout:
			return false
		}
	}
}

// Status returns how the command ended: its exit status, or 128 and the number
// of the signal that ended it. It must not be called before Done is closed.
func (p *Process) Status() int {
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return statusSignal + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// SignalStatus is the exit status of a program that sig ended.
func SignalStatus(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return statusSignal + int(n)
	}
	return statusSignal
}

// StartStatus is the exit status for an error of exec.LookPath or Start.
func StartStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return StatusNotFound
	}
	return StatusCannotRun
}
