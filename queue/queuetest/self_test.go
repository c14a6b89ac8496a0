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
		Locks:    func(*testing.T) queuetest.Locks { return driverLocks{e.Locks()} },
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

// TestReference runs it against another driver, which has nothing in common
// with the engine or, in a process of TestFlaws, against one with a flaw.
func TestReference(t *testing.T) {
	r := newReference()
	r.flaws = flawed[os.Getenv(faultVariable)].flaws
	var open []*refConn
	queuetest.Run(t, queuetest.Harness{
		Locks: func(*testing.T) queuetest.Locks { return refLocks{r} },
		Open: func(*testing.T) driver.Conn {
			c := r.connect()
			open = append(open, c)
			return c
		},
		Restart: func(*testing.T) {
			for _, c := range open {
				c.Close()
			}
			open = nil
			r.restart()
		},
		Lease:    250 * time.Millisecond,
		Patience: patience(),
	})
}

// TestBare runs it against a driver that has no optional power: each check
// must assert that using one is ErrUnsupported.
func TestBare(t *testing.T) {
	r := newReference()
	queuetest.Run(t, queuetest.Harness{
		Open:    func(*testing.T) driver.Conn { return bare{r.connect()} },
		Restart: func(*testing.T) {},
		Lease:   250 * time.Millisecond,
	})
}
