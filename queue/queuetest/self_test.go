package queuetest_test

import (
	"os"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

// faultVariable names the fault that a run of the suite is to find.
const faultVariable = "LOCKKEEPER_QUEUETEST_FAULT"

func harness(t *testing.T) queuetest.Harness {
	url := "file://" + t.TempDir() + "?min_ttl=10ms"
	open := func(t *testing.T) *engine.Engine {
		e, err := engine.Open(t.Context(), url, nil)
		if err != nil {
			t.Fatalf("engine.Open: %v", err)
		}
		return e
	}
	e := open(t)
	t.Cleanup(func() { e.Close() })
	return queuetest.Harness{
		Open: func(*testing.T) driver.Conn { return broken(e.Queues(), os.Getenv(faultVariable)) },
		Restart: func(t *testing.T) {
			e.Close()
			e = open(t)
		},
		Lease:    250 * time.Millisecond,
		Patience: patience(),
	}
}

// patience is short where the suite is expected to fail.
func patience() time.Duration {
	if os.Getenv(faultVariable) != "" {
		return 2 * time.Second
	}
	return 30 * time.Second
}

// TestSuite runs the suite against a driver that is right or, in a process
// of TestFaults, against one that is not.
func TestSuite(t *testing.T) { queuetest.Run(t, harness(t)) }
