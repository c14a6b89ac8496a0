package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/drivers/remote"
	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
)

// Exit statuses. Scripts rely on them. `lockkeeper lock` also exits with the
// status of its command, 126 or 127 when that cannot be started, and 128 + n
// when signal n ended it; an interrupted command exits with 128 + n as well.
const (
	StatusOK         = 0
	StatusFailure    = 1
	StatusUsage      = 2  // wrong flags or arguments, or a value that breaks a documented limit
	StatusNotGranted = 69 // EX_UNAVAILABLE: the lock was not granted in time; the command has not run
	StatusLost       = 75 // EX_TEMPFAIL: the lock was lost while the command ran
)

// failure is an error with the exit status that it leads to.
type failure struct {
	status int
	err    error // nil: everything was said already
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// exit returns an error that leads to a status without another word, and nil
// for status 0.
func exit(status int) error {
	if status == StatusOK {
		return nil
	}
	return &failure{status: status}
}

// usageError is about how a command was called.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usageOf(cmd *cobra.Command, err error) error { return &usageError{cmd: cmd, err: err} }

// interruption is the cause of a context that a signal ended.
type interruption struct{ signal os.Signal }

func (i *interruption) Error() string { return "interrupted by " + i.signal.String() }

// interrupted returns the interruption that ended ctx, if one did.
func interrupted(ctx context.Context) *interruption {
	var i *interruption
	if errors.As(context.Cause(ctx), &i) {
		return i
	}
	return nil
}

// report tells the user about err and returns the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return StatusOK
	}
	var usage *usageError
	if errors.As(err, &usage) {
		path := usage.cmd.CommandPath()
		fmt.Fprintf(a.Err, "%s: %v\n\nUsage: %s\nExamples and flags: %s --help\n", path, err, usage.cmd.UseLine(), path)
		return StatusUsage
	}
	status := StatusFailure
	var f *failure
	var i *interruption
	switch {
	case errors.As(err, &f):
		if f.err == nil {
			return f.status
		}
		status = f.status
	case errors.As(err, &i):
		status = child.SignalStatus(i.signal)
	case errors.Is(err, lease.ErrInvalid):
		status = StatusUsage
	}
	a.say("%v", err)
	if next := a.advice(err); next != "" {
		fmt.Fprintf(a.Err, "  %s\n", next)
	}
	return status
}

// advice says what to do about err, or nothing.
func (a *app) advice(err error) string {
	daemon := strings.HasPrefix(a.url, "http")
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && !daemon:
		return "Nothing listens there: start the server, or correct the URL."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Start the daemon with: lockkeeper serve. Or say where it runs with --url or " + envURL + "."
	case errors.As(err, &dns):
		return "Check the host's name in --url or " + envURL + "."
	case errors.Is(err, lease.ErrDenied) && !daemon:
		return "The server wants a user and password, or refuses this one: give them in the URL, or the password in a password_file."
	case errors.Is(err, lease.ErrDenied):
		return "The daemon wants a bearer token, one of its --token-file: set " + remote.TokenEnv + ", or add ?token_file=PATH to the URL."
	case errors.Is(err, lease.ErrNoSpace):
		return "Make room on the disk of the store; nothing that was confirmed is lost, and it goes on by itself."
	case errors.Is(err, queue.ErrUnroutable):
		return "Bind a queue to the exchange (lockkeeper apply, lockkeeper declare binding), or publish without --mandatory."
	case errors.Is(err, queue.ErrQueueFull):
		return "Consume from the queue, or declare it anew with a larger max_length or with overflow drop_head."
	case errors.Is(err, lease.ErrUnavailable) && daemon:
		return "Look at what the daemon says about it, or run: lockkeeper doctor --url " + a.url
	}
	return ""
}
