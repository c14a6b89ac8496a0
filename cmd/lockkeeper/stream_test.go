package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bodies are those that `stream --json` printed, with their offsets.
func bodies(t *testing.T, out string) (all []string, first uint64) {
	t.Helper()
	for line := range strings.Lines(out) {
		var m struct {
			Offset uint64 `json:",string"`
			Stored time.Time
			Body   string

			Attempt *int   // of deliveries only, as is the next
			Age     *int64 `json:"age_ms"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Offset == 0 || m.Stored.IsZero() || m.Attempt != nil || m.Age != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if first == 0 {
			first = m.Offset
		}
		all = append(all, m.Body)
	}
	return all, first
}

func TestStream(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "events", "--type", "stream", "--keep-age", "7d", "--keep-messages", "1000000", "--keep-bytes", "1000000000")
	must(t, d.url, numbers(10), "publish", "", "events", "--lines")
	read := func(want string, args ...string) uint64 {
		t.Helper()
		got, first := bodies(t, must(t, d.url, "", append([]string{"stream", "events", "--json"}, args...)...))
		if strings.Join(got, " ") != want {
			t.Errorf("stream %s: %s, want %s", args, got, want)
		}
		return first
	}
	if first := read("1 2 3 4 5 6 7 8 9 10"); first != 1 {
		t.Errorf("the first offset is %d", first)
	}
	read("10", "--from", "last")
	read("", "--from", "next")
	read("9 10", "--from", "9")
	read("1 2", "--from", time.Now().Add(-time.Hour).Format(time.RFC3339), "--count", "2")
	read("1 2 3", "--consumer", "me", "--count", "3")
	d.kill()
	d.start()
	read("4 5", "--consumer", "me", "--count", "2")
	read("1", "--consumer", "other", "--count", "1")

	follower := begin(t, command(d.url, "stream", "events", "--from", "next", "--follow", "--count", "1"))
	for !strings.Contains(follower.out.String(), "later") { // from where it begins is not known here
		must(t, d.url, "", "publish", "", "events", "later")
	}
	if r := follower.wait(); r.status != 0 {
		t.Errorf("following ended with %d: %s", r.status, r.err)
	}
	if r := run(t, d.url, "", "stream", "events", "--from", "yesterday"); r.status != 2 || !strings.Contains(r.err, "--from must be") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if r := run(t, d.url, "", "stream", "nothing"); r.status != 1 || !strings.Contains(r.err, "not found") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	must(t, d.url, "", "declare", "queue", "q")
	if r := run(t, d.url, "", "stream", "q"); r.status != 1 || !strings.Contains(r.err, "stream") {
		t.Errorf("a queue that is no stream: status %d: %s", r.status, r.err)
	}
	if r := run(t, d.url, "", "consume", "events", "--count", "1"); r.status != 1 || !strings.Contains(r.err, "stream") {
		t.Errorf("a stream is consumed: status %d: %s", r.status, r.err)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "reports")
	if out := must(t, d.url, "", "schedule", "list"); out != "no schedules\n" {
		t.Errorf("listed %q", out)
	}
	if out := must(t, d.url, "", "schedule", "put", "nightly", "30 2 * * *", "", "reports", "x", "--time-zone", "Europe/Berlin", "--dry-run"); strings.Count(out, "T02:30:00+0") != 5 {
		t.Errorf("a dry run says %s", out)
	}
	must(t, d.url, "", "schedule", "put", "nightly", "30 2 * * *", "", "reports", "make it", "--time-zone", "Europe/Berlin", "--paused")
	must(t, d.url, "", "schedule", "put", "often", "* * * * * *", "", "reports", "tick", "--missed", "latest")
	if out := must(t, d.url, "", "schedule", "list"); !strings.Contains(out, "paused") || !strings.Contains(out, "often") {
		t.Errorf("listed %s", out)
	}
	if out := must(t, d.url, "", "schedule", "list", "oft", "--json"); strings.Count(out, "\n") != 1 || !strings.Contains(out, `"missed":"latest"`) {
		t.Errorf("listed %s", out)
	}
	if out := must(t, d.url, "", "consume", "reports", "--count", "2"); out != strings.Repeat("tick\n", 2) {
		t.Errorf("the ticks are %q", out)
	}
	if out := must(t, d.url, "", "schedule", "next", "nightly", "--count", "3"); strings.Count(out, "\n") != 3 {
		t.Errorf("the next ticks are %s", out)
	}
	if r := run(t, d.url, "", "schedule", "put", "bad", "61 * * * *", "", "reports"); r.status == 0 || !strings.Contains(r.err, "cron") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if r := run(t, d.url, "", "schedule", "put", "bad", "* * * * *", "", "reports", "--time-zone", "Moon/Sea"); r.status == 0 || !strings.Contains(r.err, "time_zone") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	must(t, d.url, "", "schedule", "delete", "often")
	if r := run(t, d.url, "", "schedule", "delete", "often"); r.status != 1 || !strings.Contains(r.err, "not found") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
}

func TestApplySchedules(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	const text = `queues: [{name: reports}]
schedules:
  - {name: nightly, cron: "30 2 * * *", time_zone: Europe/Berlin, key: reports, body: make it, headers: {n: 1}}
  - {name: hourly, cron: "@hourly", key: reports, missed: skip}
`
	file := filepath.Join(t.TempDir(), "reports.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(text, "@hourly", "@often", 1)
	if r := run(t, d.url, bad, "apply", "-"); r.status == 0 || !strings.Contains(r.err, "schedules[1] hourly") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if out := must(t, d.url, "", "apply", "--dry-run", file); !strings.Contains(out, "+ queue reports\n+ schedule nightly\n+ schedule hourly\n3 to make, 0 there") {
		t.Errorf("a dry run says %s", out)
	}
	if out := must(t, d.url, "", "schedule", "list"); out != "no schedules\n" {
		t.Errorf("a dry run made %s", out)
	}
	if out := must(t, d.url, "", "apply", file); !strings.Contains(out, "3 made, 0 there already") {
		t.Errorf("the first says %s", out)
	}
	if out := must(t, d.url, "", "apply", file); out != "0 made, 3 there already\n" {
		t.Errorf("again it says %s", out)
	}
	other := strings.Replace(text, "n: 1", "n: 2", 1)
	if out := must(t, d.url, other, "apply", "-"); out != "~ schedule nightly\n1 made, 2 there already\n" {
		t.Errorf("a change says %s", out)
	}
	if out := must(t, d.url, other, "apply", "-"); out != "0 made, 3 there already\n" {
		t.Errorf("after the change it says %s", out)
	}
	d.kill()
	d.start()
	if out := must(t, d.url, "", "schedule", "list", "--json"); strings.Count(out, "\n") != 2 || !strings.Contains(out, `"time_zone":"Europe/Berlin"`) {
		t.Errorf("after a restart there are %s", out)
	}
}
