package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// busy holds locks and fills queues, and returns when all can be seen.
func busy(t *testing.T, d *daemon) {
	t.Helper()
	for i := range 3 {
		name := fmt.Sprint("shop-q", i)
		must(t, d.url, "", "declare", "queue", name)
		for range i {
			must(t, d.url, "", "publish", "", name, "x")
		}
	}
	begin(t, command(d.url, "lock", "shop-calm", "--", "sleep", "1000"))
	for range 3 {
		begin(t, command(d.url, "lock", "--wait", "10m", "shop-busy", "--", "sleep", "1000"))
	}
	eventually(t, "all hold or wait", func() bool {
		out := must(t, d.url, "", "locks", "--json")
		return strings.Contains(out, `"waiting":2`) && strings.Contains(out, "shop-calm")
	})
}

func TestTopInATerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	busy(t, d)
	term := openTerminal(t)
	term.shell(d.url)
	term.enter("top", "--interval", "100ms")
	inOrder := func(parts ...string) func(string) bool {
		return func(screen string) bool {
			at := 0
			for _, part := range parts {
				i := strings.Index(screen[at:], part)
				if i < 0 {
					return false
				}
				at += i + len(part)
			}
			return true
		}
	}
	term.shows("the busiest first, with rates", inOrder("lockkeeper top", "2 locks, 2 waiting; 3 queues, 3 messages and 0 in flight, in 0/s",
		"LOCKS by waiting", "OLDEST WAIT", "shop-busy", "exclusive        1        2", "shop-calm",
		"QUEUES by depth", "IN/S", "shop-q2      2", "0      0", "shop-q1", "shop-q0", "q quit"))
	term.Press("n")
	term.shows("both by name", inOrder("LOCKS by name", "shop-busy", "shop-calm", "QUEUES by name", "shop-q0", "shop-q1", "shop-q2"))
	term.Press("d")
	term.shows("queues by depth again", inOrder("LOCKS by name", "QUEUES by depth", "shop-q2"))
	term.Press("/shop-qx\x7f2\r")
	term.shows("only what begins so", func(s string) bool {
		return has("top shop-q2", "nobody holds or awaits", "shop-q2      2")(s) && !strings.Contains(s, "shop-q1")
	})
	term.Press("/\x7f\x7f\x7f\r\t")
	term.shows("only locks", func(s string) bool { return has("top shop", "shop-busy")(s) && !strings.Contains(s, "QUEUES") })
	term.Press("\t")
	term.shows("only queues", func(s string) bool { return has("shop-q0")(s) && !strings.Contains(s, "LOCKS") })
	term.Press("?")
	term.shows("its keys", has("any key goes back"))
	term.Press("xp")
	term.shows("a pause", has("paused", "shop-q2"))
	must(t, d.url, "", "publish", "", "shop-q2", "x")
	term.Press("p")
	term.shows("what has come", has("shop-q2      3"))
	term.Resize(36, 9)
	term.Press("\t")
	term.shows("the least of it", func(s string) bool {
		return inOrder("lockkeeper top", "LOCKS", "WAITING", "shop-busy", "QUEUES", "READY", "shop-q2")(s) && !strings.Contains(s, "OLDEST")
	})
	term.Resize(100, 24)
	d.kill()
	term.shows("the daemon is away", has("no answer for", "connection refused", "shop-q2"))
	d.start()
	term.shows("it is back", func(s string) bool { return !strings.Contains(s, "no answer") && strings.Contains(s, "shop-q2") })
	term.Press("q")
	term.restored(0)

	pid := term.enter("top", "--interval", "100ms")
	term.shows("it runs", has("QUEUES"))
	if err := syscall.Kill(pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	term.restored(0)
	term.enter("top", "--once")
	term.restored(0)
	term.shows("a snapshot stays", has("LOCKS by waiting", "shop-q2"))
}

// Where nobody watches it prints snapshots and ends.
func TestTopPrintsSnapshots(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	if out := must(t, d.url, "", "top"); !strings.HasSuffix(out, "  0 locks, 0 waiting; 0 queues, 0 messages and 0 in flight\n") {
		t.Errorf("of an empty server: %q", out)
	}
	busy(t, d)
	out := must(t, d.url, "", "top")
	if strings.Count(out, "LOCKS") != 1 || !strings.Contains(out, "shop-busy") || strings.Contains(out, "\x1b") || strings.Contains(out, "first") {
		t.Errorf("a snapshot: %s", out)
	}
	if out := must(t, d.url, "", "top", "--names", "2", "shop", "--sort", "name,name"); !strings.Contains(out, "first 2 queues") ||
		!strings.Contains(out, "QUEUES by name (only the first 2 names of more") || strings.Contains(out, "shop-q2") || strings.Contains(out, "first 2 locks") {
		t.Errorf("of more names than are looked at: %s", out)
	}
	if out := must(t, d.url, "", "top", "--names", "3"); strings.Contains(out, "first") {
		t.Errorf("of as many names as are looked at: %s", out)
	}
	out = must(t, d.url, "", "top", "--json", "--count", "2", "--interval", "300ms")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	type snapshot struct {
		Locks []struct {
			Name             string
			Holders, Waiting int
		}
		Queues []struct {
			Name  string
			Ready int
			In    *float64 `json:"in_per_second"`
			Out   *float64 `json:"out_per_second"`
		}
	}
	var first, second snapshot
	for i, into := range []*snapshot{&first, &second} {
		if err := json.Unmarshal([]byte(lines[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	if l := second.Locks; len(l) != 2 || l[0].Name != "shop-busy" || l[0].Waiting != 2 || l[0].Holders != 1 {
		t.Errorf("locks: %+v", l)
	}
	if q := first.Queues; len(q) != 3 || q[2].Ready != 2 || q[2].In != nil {
		t.Errorf("the first: %+v", q)
	}
	if q := second.Queues; len(q) != 3 || q[2].In == nil || *q[2].In != 0 || q[2].Out == nil {
		t.Errorf("the second has no rates: %+v", q)
	}
	for _, args := range [][]string{
		{"--names", "0"}, {"--names", "1001"}, {"--interval", "49ms"}, {"--interval", "61m"}, {"--count", "-1"}, {"--once", "--count", "2"}, {"--sort", "size"},
	} {
		if r := run(t, d.url, "", append([]string{"top"}, args...)...); r.status != 2 {
			t.Errorf("top %v: status %d, want 2", args, r.status)
		}
	}
	must(t, d.url, "", "top", "--names", "1000", "--interval", "50ms", "--count", "2")
	d.kill()
	if r := run(t, d.url, "", "top"); r.status != 1 || !strings.Contains(r.err, "lockkeeper serve") {
		t.Errorf("without a daemon: status %d, %s", r.status, r.err)
	}
	if out := must(t, "file://"+d.data, "", "top"); !strings.Contains(out, "shop-q2") {
		t.Errorf("of a directory: %s", out)
	}
	if r := run(t, "mem://", "", "top"); r.status != 2 {
		t.Errorf("of memory: status %d", r.status)
	}
}
