package redis

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
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// roleEnv makes the test binary play another process: what it does, the URL
// and the name of the lock, one a line.
const roleEnv = "LOCKKEEPER_TEST_ROLE"

// playRole is called by TestMain. It reports whether this process plays one.
func playRole() bool {
	role := strings.Split(os.Getenv(roleEnv), "\n")
	if len(role) != 3 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := lock.Open(ctx, role[1])
	if err != nil {
		fmt.Println(err)
		return true
	}
	le, err := l.Acquire(ctx, role[2], &lock.Options{TTL: holderTTL})
	if err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println(le.Token())
	in := bufio.NewReader(os.Stdin)
	_, _ = in.ReadString('\n') // it is stopped here, and continued
	check := le.Check()
	fmt.Printf("expired=%v ended=%v", errors.Is(check, lease.ErrExpired), le.Context().Err() != nil)
	fmt.Printf(" not held=%v\n", errors.Is(le.Release(ctx), lease.ErrNotHeld))
	return true
}

// holderTTL is the TTL of the locks of the other process.
const holderTTL = time.Second

// other is another process that acquires a lock.
type other struct {
	*child.Process
	in  io.Writer
	out *bufio.Reader
}

func startOther(t testing.TB, url, name string) *other {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.Join([]string{"hold", url, name}, "\n"))
	cmd.Stderr = os.Stderr
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
	w.Close()
	t.Cleanup(func() { p.Stop(0); r.Close() })
	return &other{Process: p, in: in, out: bufio.NewReader(r)}
}

func (o *other) line(t testing.TB) string {
	t.Helper()
	s, err := o.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// TestStoppedHolder stops the process of a holder for three TTLs. When it runs
// on, its first look says that the lease is over, and its release changes
// nothing.
func TestStoppedHolder(t *testing.T) {
	url := "redis://" + realserver.SharedRedis(t).Addr()
	ctx, name := bounded(t), fresh(t)
	holder := startOther(t, url, name)
	token, err := lease.ParseToken(holder.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	rival, err := openLocker(t, url).Acquire(ctx, name, nil)
	if err != nil || rival.Token() <= token {
		t.Fatalf("the rival: %v, %v; want a token above %d", rival, err, token)
	}
	timer := time.NewTimer(time.Until(stopped.Add(3 * holderTTL)))
	defer timer.Stop()
	<-timer.C
	if err := holder.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(holder.in, "\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := holder.line(t), "expired=true ended=true not held=true"; got != want {
		t.Errorf("the holder that was stopped says %q; want %q", got, want)
	}
	if err := rival.Renew(ctx); err != nil {
		t.Errorf("the rival's lease: %v", err)
	}
}

// TestKilledHeadIsPassed kills the process of the head of the line. Whether the
// name comes free by a release or by an expiry, the next is granted within
// what the capabilities say.
func TestKilledHeadIsPassed(t *testing.T) {
	url := "redis://" + realserver.SharedRedis(t).Addr()
	for _, expires := range []bool{false, true} {
		ctx, name := bounded(t), fresh(t)
		l := openLocker(t, url)
		held, err := l.Acquire(ctx, name, &lock.Options{TTL: 2 * time.Second, NoRenew: expires})
		if err != nil {
			t.Fatal(err)
		}
		free := time.Now().Add(2 * time.Second)
		head := startOther(t, url, name)
		waiting(ctx, t, l, name, 1)
		granted := make(chan time.Time, 1)
		go func() {
			if _, err := l.Acquire(ctx, name, nil); err != nil {
				t.Error(err)
			}
			granted <- time.Now()
		}()
		waiting(ctx, t, l, name, 2)
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
		if took > deadWaiter {
			t.Errorf("expires=%v: a dead waiter was in the way for %v; %v is claimed", expires, took, deadWaiter)
		}
	}
}
