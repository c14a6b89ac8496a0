package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// A benchmark shows how far it is and what it has measured; Ctrl-C ends it with
// the figures until then, and nothing is left behind.
func TestBenchInATerminal(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	term := openTerminal(t)
	term.shell(d.url)
	term.enter("bench", "queues", "--duration", "10m", "--window", "50")
	counted := regexp.MustCompile(`publish \(confirm\) +[1-9]\d* +[1-9]`)
	term.shows("live figures", func(s string) bool {
		return has("bench queues  [....", "of 10m", "PER SECOND", "P99", "consume (end to end)")(s) && counted.MatchString(s)
	})
	term.Press("\x03")
	term.restored(130)
	s := term.String()
	if !counted.MatchString(s) || !strings.Contains(s, "durability: synced") || !strings.Contains(s, "acked of what was published") ||
		!strings.Contains(s, "a signal ended it early") || strings.Contains(s, "[....") {
		t.Errorf("it left:\n%s", s)
	}
	if out := must(t, d.url, "", "queues"); !strings.Contains(out, "there are no queues") {
		t.Errorf("left behind: %s", out)
	}
	term.enter("bench", "locks", "--count", "50")
	term.restored(0)
	term.shows("the result", has("acquire  50", "cycle    50"))
}

// On a pipe nothing but the result is printed, and rows of JSON have the
// fields that scripts read.
func TestBenchOnAPipe(t *testing.T) {
	t.Parallel()
	r := run(t, "mem://", "", "bench", "queues", "--count", "200", "--json")
	if r.status != 0 || r.err != "" {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), r.out)
	}
	for _, line := range lines {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"what", "durability", "per_second", "count", "p50_us", "p99_us", "p999_us", "max_us"} {
			if _, ok := row[field]; !ok {
				t.Errorf("no %s in %s", field, line)
			}
		}
		if row["count"] != 200.0 {
			t.Errorf("counted %v, want 200", row["count"])
		}
	}
}

// The demo shows the shop while it runs, in the middle of kills, and leaves the
// verdict.
func TestDemoInATerminal(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	term.Resize(100, 30)
	term.shell("http://127.0.0.1:1")
	term.enter("demo", "--duration", "4s")
	term.shows("the shop", has("demo  [", "of 4s", "orders confirmed", "stock rows written", "daemon", "payment 0", "inventory 2",
		"shop.inventory", "IN/S", "HOLDERS"))
	term.shows("what is done to it", has("started it again"))
	term.restored(0)
	if s := term.String(); !strings.Contains(s, "invariants: all hold") || strings.Contains(s, "HOLDERS") {
		t.Errorf("it left:\n%s", s)
	}
	term.enter("demo", "--duration", "10m")
	term.shows("the shop again", has("of 10m", "shop.inventory"))
	term.Press("\x03")
	term.restored(130)
}
