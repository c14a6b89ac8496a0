package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
)

// quietClientsEnv makes the test's program one that only opens sessions: it
// names an address and a number.
const quietClientsEnv = "LOCKKEEPER_TEST_QUIET_CLIENTS"

// quietClientsMain opens the sessions and then, for each line that comes in,
// sees that they are alive.
func quietClientsMain(what string) error {
	var addr string
	var n int
	if _, err := fmt.Sscan(what, &addr, &n); err != nil {
		return err
	}
	conns := make([]net.Conn, n)
	for i := range conns {
		var err error
		if conns[i], err = quietSession(addr); err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
	}
	fmt.Println("open")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		for i, c := range conns {
			if err := pinged(c); err != nil {
				return fmt.Errorf("session %d: %w", i, err)
			}
		}
		fmt.Println("alive")
	}
	return nil
}

// quietSession opens a session by hand, with no goroutine or buffer at this
// end, and has it answer a ping.
func quietSession(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, "GET /v1/connect HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "+frame.Protocol+"\r\n\r\n")
	if err != nil {
		return nil, err
	}
	var head []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := io.ReadFull(c, one); err != nil {
			return nil, err
		}
		head = append(head, one[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		return nil, fmt.Errorf("answered %q", head)
	}
	if _, err := readMessage(c); err != nil { // the hello
		return nil, err
	}
	return c, pinged(c)
}

// readMessage reads one short WebSocket message of a server.
func readMessage(c net.Conn) ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	n := int(head[1])
	if n == 126 {
		if _, err := io.ReadFull(c, head); err != nil {
			return nil, err
		}
		n = int(head[0])<<8 | int(head[1])
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, err
}

// pinged sends a ping and reads the pong.
func pinged(c net.Conn) error {
	b := frame.AppendFrame(nil, 1, frame.AppendPing(nil))
	if _, err := c.Write(append([]byte{0x82, 0x80 | byte(len(b)), 0, 0, 0, 0}, b...)); err != nil { // masked with zeros
		return err
	}
	b, err := readMessage(c)
	if err != nil {
		return err
	}
	f, _, err := frame.Next(b)
	if err != nil || f.Kind != frame.Pong || f.ID != 1 {
		return fmt.Errorf("a ping is answered with %v of %d, %w", f.Kind, f.ID, err)
	}
	return nil
}
