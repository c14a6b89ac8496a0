package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// tokenOf reads the token that a command printed.
func tokenOf(t *testing.T, out string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const printToken = "echo $LOCKKEEPER_TOKEN"

// The commands work on a backend without a daemon.
func TestCommandsOnABackend(t *testing.T) {
	t.Parallel()
	u := "redis://" + realserver.SharedRedis(t).Addr() + "/1"
	first := tokenOf(t, must(t, u, "", "lock", "direct/a", "--", "sh", "-c", printToken))
	second := tokenOf(t, must(t, "", "", "lock", "--url", u, "direct/a", "--", "sh", "-c", printToken))
	must(t, u, "", "lock", "direct/a", "direct/b", "--", "true")
	if second <= first {
		t.Errorf("tokens %d and %d do not grow", first, second)
	}
	holder(t, u, t.TempDir(), "sleep 60", "--meta", "job=x")
	if out := must(t, "", "", "locks", "--url", u); !strings.Contains(out, "job=x") {
		t.Errorf("locks:\n%s", out)
	}
	if r := run(t, u, "", "lock", "--wait", "0", "k", "--", "true"); r.status == 0 {
		t.Error("a held lock was granted again")
	}
	out := must(t, "", "", "doctor", u)
	for _, want := range []string{"redis: fencing tokens", "without deadlock search", "server_wall", "on a lost node", "queues", "not served", "compare tokens"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what the doctor says:\n%s", want, out)
		}
	}
	var found struct {
		Locks struct {
			Backend string
			Assumes struct{ Clock, Fence, Node, Waiter string }
		}
	}
	if err := json.Unmarshal([]byte(must(t, "", "", "doctor", "--json", u)), &found); err != nil {
		t.Fatal(err)
	}
	if l := found.Locks; l.Backend != "redis" || l.Assumes.Clock == "" || l.Assumes.Node == "" {
		t.Errorf("doctor --json says %+v", l)
	}
	if r := run(t, "redis://127.0.0.1:1", "", "locks"); r.status != 1 || !strings.Contains(r.err, "Nothing listens there") {
		t.Errorf("nobody there: status %d, %q", r.status, r.err)
	}
}

// A daemon with --locks shows its clients the locks of the backend: those who
// use the backend directly have the same ones.
func TestServeLocksOfABackend(t *testing.T) {
	t.Parallel()
	server := realserver.StartRedis(t)
	direct := "redis://" + server.Addr()
	d := startDaemon(t, "--locks", direct)
	first := tokenOf(t, must(t, d.url, "", "lock", "k", "--", "sh", "-c", printToken))
	dir := t.TempDir()
	h := holder(t, d.url, dir, "sleep 60", "--meta", "through=daemon")
	if out := must(t, direct, "", "locks"); !strings.Contains(out, "through=daemon") {
		t.Errorf("the backend does not have the daemon's lock:\n%s", out)
	}
	rival := begin(t, command(direct, "lock", "--wait", "1m", "k", "--", "sh", "-c", printToken))
	eventually(t, "the rival waits in the one line", func() bool {
		return strings.Contains(must(t, d.url, "", "locks", "--json"), `"waiting":1`)
	})
	h.signal(syscall.SIGTERM)
	if second := tokenOf(t, rival.wait().out); second <= first {
		t.Errorf("the token %d follows %d", second, first)
	}
	// Queues are the daemon's own, and their commits name no lock of another
	// store.
	must(t, d.url, "", "declare", "queue", "mail")
	must(t, d.url, "", "publish", "", "mail", "hello")
	if out := must(t, d.url, "", "consume", "mail", "--count", "1"); !strings.Contains(out, "hello") {
		t.Errorf("consumed %q", out)
	}
	if out := must(t, "", "", "doctor", d.url); !strings.Contains(out, "redis: fencing tokens") || !strings.Contains(out, "confirms are synced") {
		t.Errorf("the doctor says:\n%s", out)
	}
	// A restart of the daemon ends no lease: the backend has it.
	holder(t, direct, dir, "sleep 60", "--meta", "over=restart")
	d.kill()
	d.start()
	if out := must(t, d.url, "", "locks"); !strings.Contains(out, "over=restart") {
		t.Errorf("after a restart of the daemon:\n%s", out)
	}
	if got := readiness(t, d); got != http.StatusOK {
		t.Errorf("readyz: %d", got)
	}
	server.Kill(t)
	if got := readiness(t, d); got != http.StatusServiceUnavailable {
		t.Errorf("readyz without the backend: %d", got)
	}
	if r := run(t, d.url, "", "lock", "--wait", "0", "x", "--", "true"); r.status == 0 || r.status == 2 {
		t.Errorf("a lock without the backend: status %d, %s", r.status, r.err)
	}
	server.Start(t)
	must(t, d.url, "", "lock", "x", "--", "true")
}

func TestServeRefusesBadBackends(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "store")
	for flags, want := range map[string]struct {
		status int
		word   string
	}{
		"--locks=mem://":                   {2, "--data"},
		"--locks=file:///tmp/x":            {2, "--data"},
		"--locks=nosuch://h":               {2, "unknown scheme"},
		"--locks=redis://h?colour=blue":    {2, "colour"},
		"--locks=redis://127.0.0.1:1":      {1, "Nothing listens there"},
		"--locks=redis://u:pw@127.0.0.1:1": {1, "redis://127.0.0.1:1"},
		"--queues=mem://":                  {2, "--data"},
		"--queues=redis://h":               {2, "unknown scheme"},
		"--queues=amqp://h?colour=blue":    {2, "colour"},
		"--queues=amqp://127.0.0.1:1":      {1, "Nothing listens there"},
		"--queues=amqp://u:pw@127.0.0.1:1": {1, "amqp://127.0.0.1:1"},
	} {
		r := run(t, "", "", "serve", "--data", data, "--listen", "127.0.0.1:0", flags)
		if r.status != want.status || !strings.Contains(r.err, want.word) || strings.Contains(r.err, "u:pw") {
			t.Errorf("%s: status %d, %s", flags, r.status, r.err)
		}
	}
}

// A daemon with --queues shows its clients the queues of the backend: those who
// use the backend directly have the same ones.
func TestServeQueuesOfABackend(t *testing.T) {
	t.Parallel()
	server := realserver.StartRabbitMQ(t)
	direct := "amqp://" + server.Addr()
	d := startDaemon(t, "--queues", direct)
	must(t, d.url, "", "declare", "queue", "mail")
	must(t, d.url, "", "publish", "", "mail", "through the daemon")
	if out := must(t, direct, "", "consume", "mail", "--count", "1"); !strings.Contains(out, "through the daemon") {
		t.Errorf("consumed from the backend %q", out)
	}
	must(t, direct, "", "publish", "", "mail", "to the backend")
	if out := must(t, d.url, "", "consume", "mail", "--count", "1"); !strings.Contains(out, "to the backend") {
		t.Errorf("consumed through the daemon %q", out)
	}
	// What the backend lacks is refused as by itself; locks are the daemon's own.
	if r := run(t, d.url, "", "declare", "queue", "new", "--dedup-window", "1h"); r.status == 0 || !strings.Contains(r.err, "dedup_window") {
		t.Errorf("dedup through the daemon: status %d, %s", r.status, r.err)
	}
	must(t, d.url, "", "lock", "k", "--", "true")
	for _, u := range []string{d.url, direct} {
		if out := must(t, "", "", "doctor", u); !strings.Contains(out, "rabbitmq: ") || !strings.Contains(out, "confirms are synced") {
			t.Errorf("the doctor says of %s:\n%s", u, out)
		}
	}
	if got := readiness(t, d); got != http.StatusOK {
		t.Errorf("readyz: %d", got)
	}
	server.Kill(t)
	if got := readiness(t, d); got != http.StatusServiceUnavailable {
		t.Errorf("readyz without the backend: %d", got)
	}
}

func readiness(t *testing.T, d *daemon) int {
	t.Helper()
	answer, err := http.Get(d.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
