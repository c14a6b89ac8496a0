package realserver

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// installTime bounds one run of apt-get, and the wait for those of others.
const installTime = 5 * time.Minute

// need returns the path of a program, and installs the Debian package that has
// it if it is missing.
func need(t testing.TB, program, debian string) string {
	t.Helper()
	return ensure(t, program, debian, func() (string, error) { return exec.LookPath(program) })
}

// ensure returns what find finds, and installs a Debian package if it finds
// nothing.
func ensure(t testing.TB, what, debian string, find func() (string, error)) string {
	t.Helper()
	if path, err := find(); err == nil {
		return path
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		t.Fatalf("%s is missing: install it (on Debian: apt-get install %s) and run the tests again", what, debian)
	}
	unlock := lockInstalls(t)
	defer unlock()
	if path, err := find(); err == nil {
		return path // another test binary was faster
	}
	// policy-rc.d is asked whether a service may be started: it may not, for
	// the tests start their own.
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	out, err := output(ctx, apt, "install", "-y", "--no-install-recommends", debian)
	if err != nil { // the lists may be old, or missing
		if out, err = output(ctx, apt, "update"); err == nil {
			out, err = output(ctx, apt, "install", "-y", "--no-install-recommends", debian)
		}
	}
	if err != nil {
		t.Fatalf("%s is missing, and apt-get install %s failed: %v\n%s", what, debian, err, out)
	}
	path, err := find()
	if err != nil {
		t.Fatalf("the Debian package %s was installed, and has no %s", debian, what)
	}
	return path
}

// output runs a command and returns what it prints.
func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	return outputWith(ctx, []string{"DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"}, program, args...)
}

// outputWith is output with more in the environment.
func outputWith(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // found in PATH, arguments are our own
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

// lockInstalls keeps two test binaries from installing at once. The kernel
// gives the lock back should this process die.
func lockInstalls(t testing.TB) (unlock func()) {
	t.Helper()
	path := filepath.Join(os.TempDir(), "lockkeeper-install.lock") //nolint:usetesting // one for all test binaries
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	err = poll(ctx, nil, func(context.Context) error {
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		t.Fatalf("wait for another installation: %v", err)
	}
	return func() { f.Close() } //nolint:errcheck // closing is giving it back
}
