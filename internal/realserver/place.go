package realserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Ports are taken from below the range that the system gives to outgoing
// connections, so that none of those takes the port of a server that was
// killed and is to be started again.
const (
	firstPort  = 20000
	portCount  = 10000
	portTrials = 200
)

var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

// freePort returns a port of the loopback that nothing listens on, and that
// was not given before.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range portTrials {
		port := firstPort + rand.IntN(portCount)
		if ports.given[port] {
			continue
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(context.Background(), "tcp", loopback(port))
		if err != nil {
			continue
		}
		ln.Close()
		ports.given[port] = true
		return port
	}
	t.Fatalf("no free port from %d on", firstPort)
	return 0
}

// FreeAddr returns an address of the loopback that nothing listens on, for a
// server that has no function here.
func FreeAddr(t testing.TB) string { t.Helper(); return loopback(freePort(t)) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// dirPrefix begins the names of all directories; the id of the process that
// made one follows.
const dirPrefix = "lockkeeper-servers-"

var root struct {
	sync.Mutex
	dir string
	n   int
}

// newDir returns a directory that does not exist yet, below the one of this
// process.
func newDir(t testing.TB, name string) string {
	t.Helper()
	root.Lock()
	defer root.Unlock()
	if root.dir == "" {
		sweep()
		dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid())) //nolint:usetesting // it outlasts the test
		if err != nil {
			t.Fatal(err)
		}
		root.dir = dir
	}
	root.n++
	return filepath.Join(root.dir, fmt.Sprintf("%s-%d", name, root.n))
}

// sweep removes the directories of processes that are gone.
func sweep() {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(id)
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.RemoveAll(dir) // somebody else may be at it
		}
	}
}

// removeRoot removes all that the servers of this process wrote.
func removeRoot() error {
	root.Lock()
	defer root.Unlock()
	if root.dir == "" {
		return nil
	}
	dir := root.dir
	root.dir = ""
	return os.RemoveAll(dir)
}
