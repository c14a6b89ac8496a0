package server

import (
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
)

const (
	// idleSessions is how many the test opens, and idleSessionsEnv the
	// environment variable that says otherwise.
	idleSessions    = 1000
	idleSessionsEnv = "LOCKKEEPER_IDLE_SESSIONS"
	// idleMemory is how many bytes of heap and stacks an idle session may
	// cost the daemon, its client's socket in this process included.
	idleMemory = 64 << 10
)

// TestIdleSessionsAreSmall opens many sessions, lets each say something once,
// and states what they cost.
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
	before := memory()
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = d.quiet()
	}
	each := (memory() - before) / int64(n)
	t.Logf("%d idle sessions cost %d bytes of heap and stacks each", n, each)
	if each > idleMemory {
		t.Errorf("an idle session costs %d bytes, at most %d", each, idleMemory)
	}
	// They are alive.
	for _, c := range conns[:10] {
		d.pinged(c)
	}
}

func memory() int64 {
	var m runtime.MemStats
	for range 3 { // finalizers and pools take a few rounds
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// quiet opens a session by hand, with no goroutine or buffer at this end, and
// has it answer a ping.
func (d *daemon) quiet() net.Conn {
	d.t.Helper()
	c := d.raw("GET /v1/connect HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + frame.Protocol + "\r\n\r\n")
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		d.t.Fatal(err)
	}
	var head []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := io.ReadFull(c, one); err != nil {
			d.t.Fatal(err)
		}
		head = append(head, one[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		d.t.Fatalf("answered %q", head)
	}
	d.readMessage(c) // the hello
	d.pinged(c)
	return c
}

// readMessage reads one short WebSocket message of a server.
func (d *daemon) readMessage(c net.Conn) []byte {
	d.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		d.t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		if _, err := io.ReadFull(c, head); err != nil {
			d.t.Fatal(err)
		}
		n = int(head[0])<<8 | int(head[1])
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		d.t.Fatal(err)
	}
	return b
}

// pinged sends a ping and reads the pong.
func (d *daemon) pinged(c net.Conn) {
	d.t.Helper()
	b := frame.AppendFrame(nil, 1, frame.AppendPing(nil))
	if _, err := c.Write(append([]byte{0x82, 0x80 | byte(len(b)), 0, 0, 0, 0}, b...)); err != nil { // masked with zeros
		d.t.Fatal(err)
	}
	f, _, err := frame.Next(d.readMessage(c))
	if err != nil || f.Kind != frame.Pong || f.ID != 1 {
		d.t.Fatalf("a ping is answered with %v of %d, %v", f.Kind, f.ID, err)
	}
}
