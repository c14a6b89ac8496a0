package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Environment of a command that runs under a lock.
const (
	envKey     = "LOCKKEEPER_KEY"
	envToken   = "LOCKKEEPER_TOKEN"
	envKeys    = "LOCKKEEPER_KEYS"
	envTokens  = "LOCKKEEPER_TOKENS"
	envHolders = "LOCKKEEPER_HOLDERS" // of the locks around: for the lockkeeper lock within
)

const (
	// maxGrace bounds how long a command may go on by default after the loss
	// of its lock.
	maxGrace = 5 * time.Second
	// lostGrace is for a loss after which another may hold the lock already.
	lostGrace = time.Second
	// tryTimeout bounds the one attempt of --wait 0.
	tryTimeout = 10 * time.Second
	// releaseTimeout bounds the release after the command has ended; past it
	// the lease is left to expire.
	releaseTimeout = 10 * time.Second
)

// held is a lock.Lease or a lock.LeaseSet.
type held interface {
	Context() context.Context
	Check() error
	Remaining() time.Duration
	Holder() string
	Release(ctx context.Context) error
}

// lockRun is one `lockkeeper lock`.
type lockRun struct {
	*app
	key     string // the keys as people read them
	keys    []string
	command []string
	value   string
	elect   bool // --value was given
	options lock.Options
	shared  bool
	wait    time.Duration
	grace   time.Duration // 0: as long as is safe
	meta    map[string]string
	signals chan os.Signal
}

func (a *app) lockCommand() *cobra.Command {
	r := &lockRun{app: a}
	cmd := &cobra.Command{
		Use:     "lock KEY... -- CMD ARGS...",
		GroupID: groupLocks,
		Short:   "Run a command while holding a lock",
		Long: `Run CMD while holding KEY. CMD runs only once the lock is granted, with
LOCKKEEPER_KEY and LOCKKEEPER_TOKEN in its environment. The token is a number
that grows with every grant of KEY: a database or an API that remembers the
greatest one it has seen can refuse a holder that was paused and overtaken.

With several KEYs CMD runs once all of them are granted; until then none is
held, so that commands that need overlapping sets cannot wait for each other
for ever. LOCKKEEPER_KEYS and LOCKKEEPER_TOKENS have a line for each then, in
byte order of the keys, instead of LOCKKEEPER_KEY and LOCKKEEPER_TOKEN.

A lockkeeper lock that CMD runs counts as waiting while this one is held: if
such commands wait in a circle, the youngest of them fails at once, with 69.

With --value KEY is an election: the holder leads, and its value is shown by
lockkeeper observe.

The lock is kept by renewing it in the background and released when CMD has
ended, not when what it left in the background has.

If the lock is lost (the server is out of reach for longer than the TTL, an
operator revoked it), CMD gets SIGTERM, then SIGKILL, and the exit status is
75. By default SIGKILL comes before anyone else can be granted the lock, which
leaves CMD about a tenth of the TTL, one second at most, and 5s at most after
a revocation. A longer --grace lets CMD run beside the next holder.

Signals are passed on to CMD: INT, TERM, HUP, QUIT, USR1, USR2 and WINCH. CMD
leads a process group of its own, and all of the group gets them and is ended
on a loss. In the foreground of a terminal CMD stays in the terminal's group
instead, so that it can read from it: there Ctrl-C and Ctrl-\ reach CMD
directly, INT, QUIT and WINCH are not passed on a second time, and what is
passed on reaches CMD itself only. If lockkeeper is killed with SIGKILL, so is
CMD (on Linux; processes that CMD has started are not reached then).

Exit statuses: that of CMD, 128 + n if signal n ended it, 126 or 127 if it
cannot be started, 69 if the lock was not granted within --wait (CMD has not
run), 75 if the lock was lost while CMD ran, 1 and 2 for other failures.`,
		Example: `  lockkeeper lock nightly-report -- ./report.sh
  lockkeeper lock --wait 0 cron/backup -- backup --full   # skip it if one is running
  lockkeeper lock --shared catalog -- ./read-catalog      # with other readers
  lockkeeper lock stock/42 stock/43 -- ./swap.sh          # both or neither
  lockkeeper lock --value "$(hostname)" leader -- ./lead  # an election
  lockkeeper lock --permits 3 gpu -- train                # three at a time
  lockkeeper lock stock/42 -- sh -c 'psql -c "UPDATE stock SET n = n - 1,
      token = $LOCKKEEPER_TOKEN WHERE item = 42 AND token < $LOCKKEEPER_TOKEN"'`,
		Args:              lockArguments,
		ValidArgsFunction: a.completeLock,
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.wait < 0 || r.grace < 0 {
				return usageOf(cmd, errors.New("--wait and --grace must not be negative"))
			}
			dash := cmd.ArgsLenAtDash()
			r.keys, r.command = slices.Compact(slices.Sorted(slices.Values(args[:dash]))), args[dash:]
			r.key = strings.Join(r.keys, ", ")
			r.elect = cmd.Flags().Changed("value")
			if r.elect && len(r.keys) > 1 {
				return usageOf(cmd, errors.New("--value is for one KEY"))
			}
			if r.shared {
				r.options.Mode = lock.Shared
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.DurationVar(&r.options.TTL, "ttl", lock.DefaultTTL, "how long the lock outlives a holder that died")
	f.DurationVar(&r.wait, "wait", time.Minute, "how long to wait in line at most; 0: do not wait")
	f.BoolVar(&r.shared, "shared", false, "hold it together with other shared holders")
	f.IntVar(&r.options.Permits, "permits", 1, "how many may hold it at once; all have to say the same number")
	f.DurationVar(&r.options.LockDelay, "lock-delay", 0, "keep it closed so long after it was lost uncleanly")
	f.StringToStringVar(&r.meta, "meta", nil, "`k=v` shown by lockkeeper locks; repeatable (host and pid are there already)")
	f.StringVar(&r.value, "value", "", "campaign for KEY: a value shown while it is held, by lockkeeper observe")
	f.DurationVar(&r.grace, "grace", 0, "time between SIGTERM and SIGKILL after a loss; 0: as long as is safe")
	return cmd
}

// lockArguments wants KEY... -- CMD ARGS...
func lockArguments(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0 && len(args) > 0:
		return usageOf(cmd, fmt.Errorf("the command has to come after --, like: lockkeeper lock %s -- CMD", args[0]))
	case dash < 1:
		return usageOf(cmd, errors.New("needs a KEY before --"))
	case len(args) == dash:
		return usageOf(cmd, errors.New("needs a command after --"))
	}
	return nil
}

func (r *lockRun) run(ctx context.Context) (err error) {
	path, err := exec.LookPath(r.command[0])
	if err != nil {
		return &failure{status: child.StartStatus(err), err: fmt.Errorf("cannot run the command: %w", err)}
	}
	r.options.Meta = r.metadata()
	if around := os.Getenv(envHolders); around != "" {
		r.options.Within = lastHolders(strings.Split(around, "\n"))
	}
	r.signals = make(chan os.Signal, 16)
	signal.Notify(r.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(r.signals)

	locks, err := r.openLocks(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	got, err := r.acquire(ctx, locks)
	if err != nil {
		return err
	}
	status, err := r.hold(got, path)
	if err != nil {
		return err
	}
	r.release(ctx, got)
	return exit(status)
}

// metadata says who this holder is, to people who look at the lock.
func (r *lockRun) metadata() map[string]string {
	meta := map[string]string{"pid": fmt.Sprint(os.Getpid())}
	if host, err := os.Hostname(); err == nil {
		meta["host"] = host
	}
	for k, v := range r.meta {
		meta[k] = v
	}
	return meta
}

// acquire waits for the lock, for --wait and until a signal comes.
func (r *lockRun) acquire(ctx context.Context, locks *lock.Locker) (held, error) {
	wait := r.wait
	if wait == 0 {
		wait = tryTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	// The signals channel is read by one goroutine at a time: this one has
	// ended when acquire returns.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case s := <-r.signals:
				if s != syscall.SIGUSR1 && s != syscall.SIGUSR2 && s != syscall.SIGWINCH {
					interrupt(&interruption{signal: s})
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	got, err := r.ask(ctx, locks)
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	i := interrupted(ctx)
	interrupt(nil)
	<-watched
	switch {
	case err == nil && i != nil:
		// Granted at the moment of the signal: the command must not start.
		r.release(context.Background(), got)
		return nil, i
	case err == nil:
		return got, nil
	case i != nil:
		return nil, i
	case errors.Is(err, lock.ErrHeld):
		return nil, &failure{status: StatusNotGranted, err: fmt.Errorf("%s is held: the command was not run", r.key)}
	case errors.Is(err, lock.ErrDeadlock):
		return nil, &failure{status: StatusNotGranted, err: fmt.Errorf("the command was not run: %w", err)}
	case late && r.wait > 0 && !errors.Is(err, lock.ErrUnavailable):
		return nil, &failure{status: StatusNotGranted, err: fmt.Errorf(
			"%s was not granted within %v: the command was not run (lockkeeper locks shows who holds it)", r.key, r.wait)}
	}
	return nil, err
}

// ask makes the request.
func (r *lockRun) ask(ctx context.Context, locks *lock.Locker) (held, error) {
	switch o := &r.options; {
	case r.elect && r.wait == 0:
		return locks.TryCampaign(ctx, r.keys[0], []byte(r.value), o)
	case r.elect:
		return locks.Campaign(ctx, r.keys[0], []byte(r.value), o)
	case len(r.keys) > 1 && r.wait == 0:
		return locks.TryAcquireAll(ctx, r.keys, o)
	case len(r.keys) > 1:
		return locks.AcquireAll(ctx, r.keys, o)
	case r.wait == 0:
		return locks.TryAcquire(ctx, r.keys[0], o)
	default:
		return locks.Acquire(ctx, r.keys[0], o)
	}
}

// environment is what the command is told.
func (r *lockRun) environment(got held) []string {
	around := append(slices.Clone(r.options.Within), got.Holder())
	env := append(os.Environ(), envHolders+"="+strings.Join(around, "\n"))
	switch got := got.(type) {
	case *lock.Lease:
		env = append(env, envKey+"="+got.Name(), envToken+"="+got.Token().String())
	case *lock.LeaseSet:
		var tokens []string
		for _, le := range got.Leases() {
			tokens = append(tokens, le.Token().String())
		}
		env = append(env, envKeys+"="+strings.Join(r.keys, "\n"), envTokens+"="+strings.Join(tokens, "\n"))
	}
	return env
}

// lastHolders returns the innermost of the holders around, as many as a
// request can name.
func lastHolders(holders []string) []string {
	return holders[max(0, len(holders)-lockdriver.MaxWithin):]
}

// hold runs the command for as long as the lease lives and returns the exit
// status. The command has ended when it returns.
func (r *lockRun) hold(held held, path string) (int, error) {
	if err := held.Check(); err != nil {
		return 0, &failure{status: StatusNotGranted, err: fmt.Errorf(
			"%s was lost before the command could start: it was not run: %w", r.key, err)}
	}
	cmd := &exec.Cmd{Path: path, Args: r.command, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	cmd.Env = r.environment(held)
	ownGroup := !child.InForeground()
	p, err := child.Start(cmd, ownGroup)
	if err != nil {
		r.release(context.Background(), held)
		return 0, &failure{status: child.StartStatus(err), err: fmt.Errorf("cannot run the command: %w", err)}
	}
	for {
		select {
		case <-p.Done():
			// The command may have ended a moment before a loss is noticed,
			// or long after one that this process slept through.
			if err := held.Check(); err != nil {
				r.say("%s was lost before the command ended with status %d: %v", r.key, p.Status(), err)
				return StatusLost, nil
			}
			return p.Status(), nil
		case s := <-r.signals:
			if ownGroup || !fromTerminal(s) {
				r.passOn(p, s)
			}
		case <-held.Context().Done():
			grace := r.graceAfter(held)
			r.say("%s was lost, ending the command: %v", r.key, context.Cause(held.Context()))
			p.Stop(grace)
			return StatusLost, nil
		}
	}
}

func (r *lockRun) passOn(p *child.Process, s os.Signal) {
	if n, ok := s.(syscall.Signal); ok {
		if err := p.Signal(n); err != nil {
			r.say("cannot pass on signal %v: %v", s, err)
		}
	}
}

// fromTerminal reports whether s is a signal that a terminal sends to all of
// its foreground group.
func fromTerminal(s os.Signal) bool {
	return s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH
}

// graceAfter returns how long the command has between SIGTERM and SIGKILL. A
// lease that ran out or was revoked is granted to nobody before its deadline
// and the margin behind it have passed; three quarters of that margin are
// used, the rest is for the kill itself.
func (r *lockRun) graceAfter(held held) time.Duration {
	if r.grace > 0 {
		return r.grace
	}
	cause := context.Cause(held.Context())
	if errors.Is(cause, lock.ErrExpired) || errors.Is(cause, lock.ErrRevoked) {
		margin := lease.Margin(r.options.TTL) * 3 / 4
		return min(maxGrace, max(0, held.Remaining())+margin)
	}
	return lostGrace
}

// release gives the lock back. What cannot be released expires by itself, so
// that is no reason to change the command's status.
func (r *lockRun) release(ctx context.Context, held held) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	err := held.Release(ctx)
	if err != nil && held.Check() != nil && !errors.Is(err, lock.ErrNotHeld) {
		r.say("%s could not be released and ends by itself within %v: %v", r.key, r.options.TTL, strings.TrimSpace(err.Error()))
	}
}
