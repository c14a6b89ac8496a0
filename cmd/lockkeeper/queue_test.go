package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// stats reads one queue's line of `queues --json`.
func stats(t *testing.T, u, name string) (ready, inFlight, acked int64) {
	t.Helper()
	for line := range strings.Lines(must(t, u, "", "queues", "--json", name)) {
		var s struct {
			Name     string
			Ready    int64
			Delayed  int64
			InFlight int64 `json:"in_flight"`
			Acked    int64
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if s.Name == name {
			return s.Ready + s.Delayed, s.InFlight, s.Acked
		}
	}
	t.Fatalf("no queue %s", name)
	return 0, 0, 0
}

// numbers is 1 to n, one a line.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

func TestPublishAndConsume(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	must(t, d.url, "", "publish", "", "q", "from an argument", "--header", "k=v", "--key", "o", "--id", "m1")
	must(t, d.url, "two\nlines\r\n", "publish", "", "q")
	r := run(t, d.url, numbers(1000), "publish", "", "q", "--lines")
	if r.status != 0 || !strings.Contains(r.err, "1000 of 1000 messages confirmed") {
		t.Fatalf("status %d: %s", r.status, r.err)
	}
	var first struct {
		Queue, ID, Body string
		Token           string
		Attempt         int
		OrderKey        string `json:"order_key"`
		RoutingKey      string `json:"routing_key"`
		Headers         map[string]any
	}
	line := must(t, d.url, "", "consume", "q", "--count", "1", "--json")
	if err := json.Unmarshal([]byte(line), &first); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if first.Queue != "q" || first.ID != "m1" || first.Body != "from an argument" || first.Attempt != 1 ||
		first.OrderKey != "o" || first.RoutingKey != "q" || first.Headers["k"] != "v" || first.Token == "" {
		t.Errorf("delivery %s", line)
	}
	if got := must(t, d.url, "", "consume", "q", "--count", "1"); got != "two\nlines\r\n\n" {
		t.Errorf("body %q", got)
	}
	if got := must(t, d.url, "", "consume", "q", "--idle", "1s"); got != numbers(1000) {
		t.Errorf("1000 lines came back as %d bytes: %.60q", len(got), got)
	}
	if ready, flying, acked := stats(t, d.url, "q"); ready != 0 || flying != 0 || acked != 1002 {
		t.Errorf("%d ready, %d in flight, %d acked; want 0, 0, 1002", ready, flying, acked)
	}
}

func TestPublishSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "exchange", "x", "topic")
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"unroutable", []string{"x", "k", "b"}, 0, "no queue matches"},
		{"mandatory", []string{"x", "k", "b", "--mandatory"}, 1, "Bind a queue"},
		{"no exchange", []string{"nope", "k", "b"}, 1, "not found"},
		{"bad header", []string{"x", "k", "b", "--header", "novalue"}, 2, "k=v"},
		{"bad delay", []string{"x", "k", "b", "--delay", "soon"}, 2, "not a duration"},
		{"body and lines", []string{"x", "k", "b", "--lines"}, 2, "--lines"},
		{"id too long", []string{"x", "k", "b", "--id", strings.Repeat("i", 129)}, 2, "message.id"},
		{"too many arguments", []string{"x", "k", "b", "c"}, 2, "quotes"},
	} {
		r := run(t, d.url, "", append([]string{"publish"}, tt.args...)...)
		if r.status != tt.status || !strings.Contains(r.err, tt.want) {
			t.Errorf("%s: status %d, %q; want %d and %q", tt.name, r.status, r.err, tt.status, tt.want)
		}
	}
	r := run(t, d.url, numbers(3), "publish", "x", "k", "--lines", "--mandatory")
	if r.status != 1 || !strings.Contains(r.err, "the first is line 1") {
		t.Errorf("unroutable lines: status %d, %q", r.status, r.err)
	}
}

func TestPublishLinesAgainWithAnID(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q", "--dedup-window", "1d")
	must(t, d.url, numbers(50), "publish", "", "q", "--lines", "--id", "import")
	out := must(t, d.url, numbers(60), "publish", "", "q", "--lines", "--id", "import", "--json")
	if !strings.Contains(out, `"confirmed":60,"duplicates":50`) {
		t.Errorf("the second time: %s", out)
	}
	if ready, _, _ := stats(t, d.url, "q"); ready != 60 {
		t.Errorf("%d messages, want 60", ready)
	}
}

func TestPublishLinesInterrupted(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	cmd := command(d.url, "publish", "", "q", "--lines", "--json")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := begin(t, cmd)
	if _, err := io.WriteString(in, numbers(20)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are there", func() bool { ready, _, _ := stats(t, d.url, "q"); return ready == 20 })
	p.signal(syscall.SIGINT)
	if r := p.wait(); r.status != 130 || !strings.Contains(r.out, `"confirmed":20`) {
		t.Errorf("status %d, %s%s", r.status, r.out, r.err)
	}
}

// A reader that goes away costs nothing that it was not given.
func TestConsumeIntoAClosedPipe(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(d.url, "consume", "q")
	cmd.Stdout = w
	p := begin(t, cmd)
	w.Close()
	r.Close()
	must(t, d.url, numbers(10), "publish", "", "q", "--lines")
	if r := p.wait(); r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	ready, flying, acked := stats(t, d.url, "q")
	if ready != 10 || flying != 0 || acked != 0 {
		t.Errorf("%d ready, %d in flight, %d acked; want 10, 0, 0", ready, flying, acked)
	}
}

// What is acked has been written, also when the consumer is interrupted at a
// bad moment: the reader takes a page at a time from a full pipe.
func TestConsumeInterruptedLosesNothing(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q", "--lease", "1h")
	must(t, d.url, strings.ReplaceAll(numbers(3000), "\n", strings.Repeat(".", 200)+"\n"), "publish", "", "q", "--lines")
	seen := map[string]bool{}
	for round := range 5 {
		cmd := command(d.url, "consume", "q")
		p := begin(t, cmd)
		eventually(t, "some are printed", func() bool { return strings.Count(p.out.String(), "\n") > 20 })
		p.signal(syscall.SIGINT)
		r := p.wait()
		if r.status != 0 {
			t.Fatalf("round %d: status %d: %s", round, r.status, r.err)
		}
		for line := range strings.Lines(r.out) {
			if seen[line] {
				t.Errorf("printed twice, though acked: %.10q", line)
			}
			seen[line] = true
		}
		ready, flying, acked := stats(t, d.url, "q")
		if int(acked) != len(seen) || flying != 0 || int(ready) != 3000-len(seen) {
			t.Fatalf("round %d: %d printed; %d acked, %d in flight, %d ready of 3000", round, len(seen), acked, flying, ready)
		}
		if ready == 0 {
			return
		}
	}
}

func TestConsumeExec(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q", "--dead-letter", "q.dead", "--delivery-limit", "2", "--backoff-min", "10ms", "--backoff-max", "20ms")
	must(t, d.url, "", "publish", "", "q", "good", "--id", "g", "--header", "h=1")
	must(t, d.url, "", "publish", "", "q", "bad", "--id", "b")
	script := `read -r body || :; echo "$body $LOCKKEEPER_QUEUE $LOCKKEEPER_MESSAGE_ID $LOCKKEEPER_ATTEMPT $LOCKKEEPER_HEADERS"; test -n "$LOCKKEEPER_TOKEN" && test "$body" = good`
	out := must(t, d.url, "", "consume", "q", "--exec", script, "--idle", "2s", "--concurrency", "2")
	for _, want := range []string{`good q g 1 {"h":"1"}`, "bad q b 1 {}", "bad q b 2 {}"} {
		if strings.Count(out, want+"\n") != 1 {
			t.Errorf("output has no single %q:\n%s", want, out)
		}
	}
	peeked := must(t, d.url, "", "peek", "q.dead", "--json")
	if !strings.Contains(peeked, `"lockkeeper-death-reason":"delivery_limit"`) || !strings.Contains(peeked, "exit status 1") {
		t.Errorf("dead letter: %s", peeked)
	}
	if out := must(t, d.url, "", "redrive", "q.dead"); out != "moved 1 message\n" {
		t.Errorf("redrive: %q", out)
	}
	must(t, d.url, "", "publish", "", "q", "later", "--id", "l", "--at", "2199-12-31T23:59:59+01:00", "--priority", "7", "--ttl", "1h")
	if out := must(t, d.url, "", "peek", "q", "--json"); !strings.Contains(out, `"not_before":"2199-12-31T22:59:59Z"`) || !strings.Contains(out, `"priority":7,"ttl_ms":3600000`) {
		t.Errorf("what is scheduled: %s", out)
	}
	if out := must(t, d.url, "", "cancel", "q", "l"); out != "cancelled l\n" {
		t.Errorf("cancel: %q", out)
	}
	if out := must(t, d.url, "", "purge", "q"); out != "dropped 1 message\n" {
		t.Errorf("purge: %q", out)
	}
}

// The first Ctrl-C lets the running command finish, and its message is acked;
// the second ends it, and its message is handed back, uncounted.
func TestConsumeExecInterrupted(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	must(t, d.url, numbers(5), "publish", "", "q", "--lines")
	dir := t.TempDir()
	p := begin(t, command(d.url, "consume", "q", "--exec", "touch "+dir+"/in; while [ ! -e "+dir+"/go ]; do sleep 0.01; done; echo done"))
	running := func() bool { _, err := os.Stat(dir + "/in"); return err == nil }
	eventually(t, "a command runs", running)
	p.signal(syscall.SIGINT)
	eventually(t, "it says that it waits", func() bool { return strings.Contains(p.err.String(), "waiting for 1 command") })
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := p.wait(); r.status != 0 || r.out != "done\n" {
		t.Errorf("status %d, %q: %s", r.status, r.out, r.err)
	}
	if ready, flying, acked := stats(t, d.url, "q"); ready != 4 || flying != 0 || acked != 1 {
		t.Errorf("%d ready, %d in flight, %d acked; want 4, 0, 1", ready, flying, acked)
	}
	for _, name := range []string{"in", "go"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	p = begin(t, command(d.url, "consume", "q", "--exec", "touch "+dir+"/in; "+forever))
	eventually(t, "a command runs", running)
	p.signal(syscall.SIGINT)
	eventually(t, "it says that it waits", func() bool { return strings.Contains(p.err.String(), "waiting for 1 command") })
	p.signal(syscall.SIGINT)
	if r := p.wait(); r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if ready, flying, acked := stats(t, d.url, "q"); ready != 4 || flying != 0 || acked != 1 {
		t.Errorf("%d ready, %d in flight, %d acked; want 4, 0, 1", ready, flying, acked)
	}
	if line := must(t, d.url, "", "consume", "q", "--count", "1", "--json"); !strings.Contains(line, `"attempt":1`) {
		t.Errorf("a message that was handed back counts an attempt: %s", line)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	const text = `exchanges: [{name: shop, kind: topic}]
queues:
  - name: pay
    lease: 30s
    delivery_limit: 3
    dead_letter: {key: dead}
    dedup_window: 7d
  - name: dead
bindings: [{exchange: shop, queue: pay, key: "order.*"}]
`
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := must(t, d.url, "", "apply", "--dry-run", file); !strings.Contains(out, "4 to make, 0 there already") || !strings.Contains(out, "+ queue pay") {
		t.Errorf("dry run: %s", out)
	}
	if out := must(t, d.url, "", "queues"); !strings.Contains(out, "there are no queues") {
		t.Errorf("the dry run made something: %s", out)
	}
	if out := must(t, d.url, "", "apply", file); !strings.Contains(out, "4 made, 0 there already") {
		t.Errorf("first: %s", out)
	}
	if out := must(t, d.url, text, "apply", "-"); out != "0 made, 4 there already\n" {
		t.Errorf("again: %s", out)
	}
	other := strings.Replace(text, "delivery_limit: 3", "delivery_limit: 4", 1) + "  - {exchange: shop, queue: dead, key: x}\n"
	if r := run(t, d.url, strings.Replace(other, "]\n  -", "]\nx:\n  -", 1), "apply", "-"); r.status != 2 || !strings.Contains(r.err, "line") {
		t.Errorf("a file with an unknown field: status %d, %s", r.status, r.err)
	}
	other = strings.Replace(text, "delivery_limit: 3", "delivery_limit: 4", 1)
	if r := run(t, d.url, other, "apply", "-"); r.status != 1 || !strings.Contains(r.err, "pay") {
		t.Errorf("a mismatch: status %d, %s", r.status, r.err)
	}
	if r := run(t, d.url, "", "apply", file+".missing"); r.status != 2 || !strings.Contains(r.err, "no such file") {
		t.Errorf("a missing file: status %d, %s", r.status, r.err)
	}
	must(t, d.url, "", "delete", "binding", "shop", "pay", "order.*")
	must(t, d.url, "", "delete", "queue", "pay")
	must(t, d.url, "", "delete", "exchange", "shop")
	if out := must(t, d.url, "", "apply", file); !strings.Contains(out, "3 made, 1 there already") {
		t.Errorf("after a delete: %s", out)
	}
}

// On a pipe `queues --watch` says a line of each queue, and then one of each
// change, also after the daemon was away.
func TestWatchQueuesSaysWhatChanges(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	must(t, d.url, "", "declare", "queue", "q")
	must(t, d.url, "", "declare", "queue", "other")
	text := begin(t, command(d.url, "queues", "--watch", "--interval", "50ms"))
	lines := begin(t, command(d.url, "queues", "--watch", "--interval", "50ms", "--json"))
	both := func(what, inText, inJSON string) {
		t.Helper()
		eventually(t, what, func() bool {
			return strings.Contains(text.out.String(), inText) && strings.Contains(lines.out.String(), inJSON)
		})
	}
	both("all queues", " q ready=0 ", `{"name":"q","ready":0,`)
	must(t, d.url, "", "publish", "", "q", "x")
	both("a message", " q ready=1 ", `{"name":"q","ready":1,`)
	d.kill()
	eventually(t, "it says that the daemon is away", func() bool { return strings.Contains(text.err.String(), "cannot be shown now") })
	d.start()
	must(t, d.url, "", "publish", "", "q", "x")
	both("another", " q ready=2 ", `{"name":"q","ready":2,`)
	must(t, d.url, "", "purge", "q")
	must(t, d.url, "", "delete", "queue", "q")
	both("the end of a queue", " q deleted\n", `{"name":"q","deleted":true}`)
	for _, p := range []*running{text, lines} {
		p.signal(syscall.SIGINT)
		r := p.wait()
		if r.status != 0 {
			t.Errorf("status %d: %s", r.status, r.err)
		}
		if n := strings.Count(r.out, "other"); n != 1 {
			t.Errorf("a queue that did not change is in %d lines, want 1:\n%s", n, r.out)
		}
	}
}

func TestBenchLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for _, args := range [][]string{
		{"bench", "locks", "--count", "100", "--concurrency", "4", "--json"},
		{"bench", "queues", "--count", "500", "--json"},
	} {
		out := must(t, d.url, "", args...)
		want := map[string]string{"locks": `"count":100`, "queues": `"count":500`}[args[1]]
		if !strings.Contains(out, want) || !strings.Contains(out, "p999_us") || !strings.Contains(out, "durability") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if out := must(t, d.url, "", "queues"); !strings.Contains(out, "there are no queues") {
		t.Errorf("left behind: %s", out)
	}
	if out := must(t, d.url, "", "locks"); out != "no locks are held\n" {
		t.Errorf("left behind: %s", out)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary, "demo", "--duration", "5s", "--json")
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	r := finish(t, cmd)
	if r.status != 0 || !strings.Contains(r.out, `"violations":[]`) {
		t.Errorf("status %d\n%s%s", r.status, r.out, r.err)
	}
	var counts struct {
		Orders int            `json:"orders_confirmed"`
		Kills  map[string]int `json:"kills"`
	}
	if err := json.Unmarshal([]byte(r.out), &counts); err != nil {
		t.Fatal(err)
	}
	if counts.Orders < 10 || counts.Kills["service"] == 0 {
		t.Errorf("too little happened: %s orders, %v", strconv.Itoa(counts.Orders), counts.Kills)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
