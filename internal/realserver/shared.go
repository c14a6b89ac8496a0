package realserver

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// shared are the servers that all tests of a package use.
var shared struct {
	sync.Mutex
	servers map[string]any
	stops   []func()
}

// Run runs the tests of a package, stops what they shared and removes what the
// servers wrote. It returns the exit status:
//
//	func TestMain(m *testing.M) { os.Exit(realserver.Run(m)) }
func Run(m *testing.M) int {
	status := m.Run()
	shared.Lock()
	for _, stop := range slices.Backward(shared.stops) { // as a test's own clean-ups
		stop()
	}
	shared.Unlock()
	if err := removeRoot(); err != nil {
		fmt.Fprintln(os.Stderr, "remove the servers' directories:", err)
		return max(status, 1)
	}
	return status
}

// once starts what name stands for with the first call of the process. start
// is given a TB whose clean-ups are run by Run.
func once[S any](t testing.TB, name string, start func(t testing.TB) S) S {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s, ok := shared.servers[name].(S); ok {
		return s
	}
	s := start(lasting{t})
	if shared.servers == nil {
		shared.servers = map[string]any{}
	}
	shared.servers[name] = s
	return s
}

// lasting is a TB whose clean-ups wait for the end of the process.
type lasting struct{ testing.TB }

// Cleanup implements testing.TB. It is called with shared locked.
func (l lasting) Cleanup(f func()) { shared.stops = append(shared.stops, f) }
