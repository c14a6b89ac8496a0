package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
)

const (
	// idleSessions is how many the test opens, and idleSessionsEnv the
	// environment variable that says otherwise.
	idleSessions    = 1000
	idleSessionsEnv = "LOCKKEEPER_IDLE_SESSIONS"
	// idleMemory is how many bytes an idle session may cost the daemon.
	idleMemory = 64 << 10
)

// TestIdleSessionsAreSmall opens many sessions from another process, lets each
// say something once, and states what they cost.
//
//	LOCKKEEPER_IDLE_SESSIONS=10000 go test -run TestIdleSessionsAreSmall -v ./server
func TestIdleSessionsAreSmall(t *testing.T) {
	n := idleSessions
	if s := os.Getenv(idleSessionsEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, func(c *Config) { c.MaxConns = n + 100 })
	before := footprintNow(t)
	clients := startQuietClients(t, d.addr, n)
	clients.expect("open")
	resident := residentBytes(t) - before.resident
	after := footprintNow(t)
	d.server.sessions.mu.Lock()
	open := len(d.server.sessions.all)
	d.server.sessions.mu.Unlock()
	if open != n {
		t.Errorf("%d sessions are open, want %d", open, n)
	}
	heap, each := (after.heap-before.heap)/int64(n), (after.resident-before.resident)/int64(n)
	t.Logf("%d idle sessions cost %d bytes of heap and stacks each, %d of resident memory; %d before what opening them took was given back", n, heap, each, resident/int64(n))
	if heap > idleMemory || each > residentMemory {
		t.Errorf("an idle session costs %d bytes of heap and stacks and %d of resident memory, at most %d and %d", heap, each, idleMemory, residentMemory)
	}
	clients.say("ping")
	clients.expect("alive")
}

// footprint is what this process takes when nothing in it is garbage.
type footprint struct {
	heap     int64 // in use, with stacks
	resident int64
}

func footprintNow(t *testing.T) footprint {
	t.Helper()
	for range 3 { // finalizers and pools take a few rounds
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{heap: int64(m.HeapInuse + m.StackInuse), resident: residentBytes(t)}
}

// residentBytes is what the system says of this process, or 0 where it does
// not say it in the way of Linux.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil && runtime.GOOS != "linux" {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Fscan(bytes.NewReader(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// quietClients are sessions of another process.
type quietClients struct {
	t     *testing.T
	in    io.Writer
	lines *bufio.Scanner
}

// startQuietClients runs this test's program as one that opens n sessions; it
// is ended with the test.
func startQuietClients(t *testing.T, addr string, n int) *quietClients {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", quietClientsEnv, addr, n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("the clients: %v", err)
		}
	})
	return &quietClients{t: t, in: in, lines: bufio.NewScanner(out)}
}

func (q *quietClients) say(line string) {
	q.t.Helper()
	if _, err := fmt.Fprintln(q.in, line); err != nil {
		q.t.Fatal(err)
	}
}

func (q *quietClients) expect(line string) {
	q.t.Helper()
	if !q.lines.Scan() || q.lines.Text() != line {
		q.t.Fatalf("the clients say %q, %v; want %q", q.lines.Text(), q.lines.Err(), line)
	}
}
