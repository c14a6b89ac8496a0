package locktest_test

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestEngineInMemory(t *testing.T) {
	e := open(t, "mem://?min_ttl=10ms")
	t.Cleanup(func() { closeEngine(t, e) })
	locktest.Run(t, locktest.Harness{
		Open:     func(testing.TB) driver.Conn { return e.Locks() },
		ShortTTL: 500 * time.Millisecond,
	})
}

func TestEngineOnDisk(t *testing.T) {
	url := "file://" + t.TempDir() + "?min_ttl=10ms"
	e := open(t, url)
	t.Cleanup(func() { closeEngine(t, e) })
	locktest.Run(t, locktest.Harness{
		Open: func(testing.TB) driver.Conn { return e.Locks() },
		Restart: func(t testing.TB) {
			closeEngine(t, e)
			e = open(t, url)
		},
		ShortTTL: 500 * time.Millisecond,
		Waiters:  200,
	})
}

func open(t testing.TB, url string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatalf("engine.Open: %v", err)
	}
	return e
}

func closeEngine(t testing.TB, e *engine.Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Errorf("close of the engine: %v", err)
	}
}
