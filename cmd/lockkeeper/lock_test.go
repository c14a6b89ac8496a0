package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLockStatuses(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"success", []string{"k", "--", "true"}, 0},
		{"its own status", []string{"k", "--", "sh", "-c", "exit 7"}, 7},
		{"died of a signal", []string{"k", "--", "sh", "-c", "kill -TERM $$"}, 128 + 15},
		{"flags of the command", []string{"--ttl", "2s", "k", "--", "sh", "-c", `test "$0" = --wait`, "--wait"}, 0},
		{"not found", []string{"k", "--", "no-such-command"}, 127},
		{"not a program", []string{"k", "--", plain}, 126},
		{"no dash", []string{"k", "true"}, 2},
		{"no command", []string{"k", "--"}, 2},
		{"no key", []string{"--", "true"}, 2},
		{"unknown flag", []string{"--tll", "3s", "k", "--", "true"}, 2},
		{"ttl too short", []string{"--ttl", "1ms", "k", "--", "true"}, 2},
		{"bad name", []string{"", "--", "true"}, 2},
		{"negative wait", []string{"--wait", "-1s", "k", "--", "true"}, 2},
	} {
		r := run(t, d.url, "", append([]string{"lock"}, tt.args...)...)
		if r.status != tt.want {
			t.Errorf("%s: status %d, want %d\n%s", tt.name, r.status, tt.want, r.err)
		}
	}
	if out := must(t, d.url, "", "locks"); out != "no locks are held\n" {
		t.Errorf("left behind:\n%s", out)
	}
}

func TestLockWithoutADaemonSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := run(t, "http://127.0.0.1:1", "", "lock", "k", "--", "true")
	if r.status != 1 || !strings.Contains(r.err, "lockkeeper serve") {
		t.Errorf("status %d, error %q; want 1 and a word about lockkeeper serve", r.status, r.err)
	}
}

func TestLockOnAFileWithoutADaemon(t *testing.T) {
	t.Parallel()
	u := "file://" + filepath.Join(t.TempDir(), "store")
	var tokens []int
	for range 2 {
		out := must(t, u, "", "lock", "k/ä %2F", "--", "sh", "-c", `echo $LOCKKEEPER_TOKEN; test "$LOCKKEEPER_KEY" = "k/ä %2F"`)
		n, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, n)
	}
	if tokens[1] <= tokens[0] {
		t.Errorf("tokens %v do not grow over a restart", tokens)
	}
}

// holder starts a lockkeeper lock whose command says when it runs.
func holder(t *testing.T, u, dir, script string, flags ...string) *running {
	t.Helper()
	ready := filepath.Join(dir, "ready")
	_ = os.Remove(ready)
	args := append(append([]string{"lock"}, flags...), "k", "--", "sh", "-c", "touch "+ready+"; "+script)
	p := begin(t, command(u, args...))
	eventually(t, "the command runs", func() bool { _, err := os.Stat(ready); return err == nil })
	return p
}

const forever = "while :; do sleep 0.01; done"

func TestLockNotGranted(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	dir := t.TempDir()
	holder(t, d.url, dir, forever)
	ran := filepath.Join(dir, "ran")
	for _, wait := range []string{"0", "300ms"} {
		r := run(t, d.url, "", "lock", "--wait", wait, "k", "--", "touch", ran)
		if r.status != 69 {
			t.Errorf("--wait %s: status %d, want 69: %s", wait, r.status, r.err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command ran without the lock")
	}
	eventually(t, "the line is empty", func() bool {
		return strings.Contains(must(t, d.url, "", "locks", "--json"), `"waiting":0`)
	})
}

func TestLockPassesSignalsOn(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, s := range map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
	} {
		trapped := filepath.Join(t.TempDir(), "trapped")
		// No terminal, as in a cron job: there the terminal would send INT
		// and QUIT to the command itself.
		cmd := command(d.url, "lock", "k", "--", "sh", "-c", "trap 'exit 42' "+name+"; touch "+trapped+"; "+forever)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		p := begin(t, cmd)
		eventually(t, "the trap is set", func() bool { _, err := os.Stat(trapped); return err == nil })
		p.signal(s)
		if r := p.wait(); r.status != 42 {
			t.Errorf("%s: status %d, want 42: %s", name, r.status, r.err)
		}
	}
}

func TestLockInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	holder(t, d.url, t.TempDir(), forever)
	p := begin(t, command(d.url, "lock", "k", "--", "true"))
	waiting := func(n int) func() bool {
		return func() bool {
			return strings.Contains(must(t, d.url, "", "locks", "--json"), fmt.Sprintf(`"waiting":%d`, n))
		}
	}
	eventually(t, "it waits", waiting(1))
	p.signal(syscall.SIGINT)
	if r := p.wait(); r.status != 130 {
		t.Errorf("status %d, want 130: %s", r.status, r.err)
	}
	eventually(t, "its place is gone", waiting(0))
}

func TestLockLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lose func(*daemon)
	}{
		{"daemon killed", func(d *daemon) { d.kill() }},
		{"daemon stopped", func(d *daemon) { d.p.signal(syscall.SIGSTOP) }},
		{"revoked", func(d *daemon) { must(d.t, d.url, "", "revoke", "k") }},
		{"broken", func(d *daemon) { must(d.t, d.url, "", "revoke", "--break", "k") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t)
			// The command ignores SIGTERM: it takes a SIGKILL.
			p := holder(t, d.url, t.TempDir(), "trap '' TERM; "+forever, "--ttl", "1s")
			began := time.Now()
			tt.lose(d)
			r := p.wait()
			if r.status != 75 || !strings.Contains(r.err, "was lost") {
				t.Errorf("status %d, want 75: %s", r.status, r.err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the command went on for %v", took)
			}
		})
	}
}

func TestLockKilledTakesItsCommandAlong(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	dir := t.TempDir()
	p := holder(t, d.url, dir, "echo $$ > "+dir+"/pid; touch "+dir+"/pid.done; "+forever, "--ttl", "1s")
	eventually(t, "the pid is known", func() bool { _, err := os.Stat(dir + "/pid.done"); return err == nil })
	text, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGKILL)
	eventually(t, "the command is gone", func() bool { return !alive(pid) })
	must(t, d.url, "", "lock", "--wait", "30s", "k", "--", "true")
}

// alive reports whether a process runs; one that has ended and that nobody
// has waited for yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// Ten scripts in parallel add to a number in a file, each in many steps that
// only exclusion keeps together. One is killed in the middle.
func TestLockFromShellScripts(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	dir := t.TempDir()
	// inside is a directory: mkdir fails if another is inside as well. The
	// one who is killed leaves it behind, with its token.
	script := `set -eu
cd "$0"
for i in 1 2 3; do
	"$1" lock --ttl 1s k -- sh -c '
		if ! mkdir inside 2>/dev/null; then
			if [ ! -e victim ] || [ "$(cat inside/token)" != "$(cat victim)" ]; then echo overlap >> overlaps; fi
			[ "$LOCKKEEPER_TOKEN" -gt "$(cat inside/token)" ] || echo token >> overlaps
		fi
		echo $LOCKKEEPER_TOKEN > inside/token
		n=$(cat count); sleep 0.02; echo $((n + 1)) > count
		rm -f inside/token; rmdir inside'
done`
	if err := os.WriteFile(filepath.Join(dir, "count"), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The victim holds the lock, is inside, and is killed there.
	victim := begin(t, command(d.url, "lock", "--ttl", "1s", "k", "--", "sh", "-c",
		"cd "+dir+"; mkdir inside; echo $LOCKKEEPER_TOKEN | tee victim > inside/token; touch in; "+forever))
	eventually(t, "the victim is inside", func() bool { _, err := os.Stat(dir + "/in"); return err == nil })
	var scripts []*running
	for range 10 {
		cmd := exec.Command("sh", "-c", script, dir, binary)
		cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+d.url)
		scripts = append(scripts, begin(t, cmd))
	}
	eventually(t, "some wait", func() bool {
		return !strings.Contains(must(t, d.url, "", "locks", "--json"), `"waiting":0`)
	})
	victim.signal(syscall.SIGKILL)
	for i, p := range scripts {
		if r := p.wait(); r.status != 0 {
			t.Errorf("script %d: status %d: %s", i, r.status, r.err)
		}
	}
	if text, err := os.ReadFile(dir + "/overlaps"); err == nil {
		t.Errorf("overlaps: %s", text)
	}
	if text, _ := os.ReadFile(dir + "/count"); strings.TrimSpace(string(text)) != "30" {
		t.Errorf("the file counts %s, want 30", text)
	}
}

// Commands that take one lock within another, in opposite order, do not wait
// for ever: one of them is told, and the other comes through.
func TestLockDeadlock(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	dir := t.TempDir()
	nested := func(outer, inner string) *running {
		script := "touch " + dir + "/" + outer + "; until [ -e " + dir + "/" + inner + " ]; do sleep 0.01; done; exec " +
			binary + " lock " + inner + " -- true"
		return begin(t, command(d.url, "lock", outer, "--", "sh", "-c", script))
	}
	a, b := nested("a", "b"), nested("b", "a")
	ra, rb := a.wait(), b.wait()
	if ra.status != 0 {
		ra, rb = rb, ra
	}
	if ra.status != 0 || rb.status != 69 || !strings.Contains(rb.err, "deadlock") {
		t.Errorf("statuses %d and %d: %s%s", ra.status, rb.status, ra.err, rb.err)
	}
}
