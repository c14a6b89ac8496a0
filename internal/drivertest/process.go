package drivertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// roleEnv makes the test binary play another process: the URL, the name of the
// lock and its TTL, one a line.
const roleEnv = "LOCKKEEPER_TEST_ROLE"

// PlayRole is called by TestMain. It reports whether this process plays the
// other process of a test: then it is over.
func PlayRole() bool {
	role := strings.Split(os.Getenv(roleEnv), "\n")
	if len(role) != 3 {
		return false
	}
	said, err := play(role[0], role[1], role[2])
	if err != nil {
		said = err.Error()
	}
	say(said)
	return true
}

// say tells the test something.
func say(line string) { _, _ = os.Stdout.WriteString(line + "\n") }

// play holds a lock while the process is stopped and continued, and returns
// what it thinks of its lease then.
func play(url, name, ttl string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	d, err := time.ParseDuration(ttl)
	if err != nil {
		return "", err
	}
	l, err := lock.Open(ctx, url)
	if err != nil {
		return "", err
	}
	le, err := l.Acquire(ctx, name, &lock.Options{TTL: d})
	if err != nil {
		return "", err
	}
	say(le.Token().String())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // it is stopped here, and continued
	check, ended := le.Check(), le.Context().Err()
	return fmt.Sprintf("expired=%v ended=%v not held=%v",
		errors.Is(check, lease.ErrExpired), ended != nil, errors.Is(le.Release(ctx), lease.ErrNotHeld)), nil
}

// Process is another process that acquires a lock: it prints the token, waits
// for a line, and prints what it thinks of its lease then.
type Process struct {
	*child.Process
	in  io.Writer
	out *bufio.Reader
}

// StartProcess starts one, which is killed when the test ends.
func StartProcess(t testing.TB, url, name string, ttl time.Duration) *Process {
	t.Helper()
	cmd := itself(t, roleEnv+"="+strings.Join([]string{url, name, ttl.String()}, "\n"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	p, err := child.Start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()                                  //nolint:errcheck // the process has its own
	t.Cleanup(func() { p.Stop(0); r.Close() }) //nolint:errcheck // nothing is lost
	return &Process{Process: p, in: in, out: bufio.NewReader(r)}
}

// itself is the test binary, to be started with one variable more.
func itself(t testing.TB, env string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe) //nolint:gosec,noctx // it is stopped by a clean-up
	cmd.Env = append(os.Environ(), env)
	cmd.Stderr = os.Stderr
	return cmd
}

// StartItself starts the test binary anew, with one variable more in its
// environment, which says to its TestMain what it is to play. It prints to out, and
// is killed when the test ends.
func StartItself(t testing.TB, env string, out *os.File) *child.Process {
	t.Helper()
	cmd := itself(t, env)
	cmd.Stdout = out
	p, err := child.Start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

// Lines returns a file for processes to print to. Each line is given to note, in
// the order in which all of them print.
func Lines(t testing.TB, note func(line string)) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			note(lines.Text())
		}
	}()
	t.Cleanup(func() {
		w.Close() //nolint:errcheck // the processes are gone
		<-read
		r.Close() //nolint:errcheck // all was read
	})
	return w
}

// Pause lets time pass in which something is broken.
func Pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// Line returns the next line that it prints.
func (p *Process) Line(t testing.TB) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// StoppedHolder stops the process of a holder for three TTLs, and until a rival
// is granted. When it runs on, its first look says that the lease is over, and
// its release changes nothing.
func StoppedHolder(t *testing.T, url string, ttl time.Duration) {
	t.Helper()
	ctx, name := Bounded(t), Fresh(t)
	holder := StartProcess(t, url, name, ttl)
	token, err := lease.ParseToken(holder.Line(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	rival, err := OpenLocker(t, url).Acquire(ctx, name, nil)
	if err != nil || rival.Token() <= token {
		t.Fatalf("the rival: %v, %v; want a token above %d", rival, err, token)
	}
	Pause(time.Until(stopped.Add(3 * ttl)))
	if err := holder.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(holder.in, "\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := holder.Line(t), "expired=true ended=true not held=true"; got != want {
		t.Errorf("the holder that was stopped says %q; want %q", got, want)
	}
	if err := rival.Renew(ctx); err != nil {
		t.Errorf("the rival's lease: %v", err)
	}
}

// KilledHeadIsPassed kills the process of the head of the line. Whether the
// name comes free by a release or, after ttl, by an expiry, the next is granted
// within what the capabilities say.
func KilledHeadIsPassed(t *testing.T, url string, ttl time.Duration) {
	t.Helper()
	for _, expires := range []bool{false, true} {
		ctx, name := Bounded(t), Fresh(t)
		l := OpenLocker(t, url)
		limit := l.Caps().DeadWaiter
		held, err := l.Acquire(ctx, name, &lock.Options{TTL: ttl, NoRenew: expires})
		if err != nil {
			t.Fatal(err)
		}
		free := time.Now().Add(ttl)
		head := StartProcess(t, url, name, ttl)
		Waiting(ctx, t, l, name, 1)
		granted := make(chan time.Time, 1)
		go func() {
			if _, err := l.Acquire(ctx, name, nil); err != nil {
				t.Error(err)
			}
			granted <- time.Now()
		}()
		Waiting(ctx, t, l, name, 2)
		if err := head.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !expires {
			free = time.Now()
			if err := held.Release(ctx); err != nil {
				t.Fatal(err)
			}
		}
		took := (<-granted).Sub(free)
		t.Logf("expires=%v: the next was granted %v after the name came free", expires, took.Round(time.Millisecond))
		if took > limit {
			t.Errorf("expires=%v: a dead waiter was in the way for %v; %v is claimed", expires, took, limit)
		}
	}
}
