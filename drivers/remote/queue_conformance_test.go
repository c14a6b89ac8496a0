package remote

import (
	"context"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/suitelocks"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

func queueHarness(d *daemon, query string) queuetest.Harness {
	return queuetest.Harness{
		Open: func(t *testing.T) queuedriver.Conn {
			c, err := openQueues(context.Background(), d.url()+query) // the suite opens one in a cleanup too
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Locks: func(t *testing.T) queuetest.Locks {
			c, err := openLocks(context.Background(), d.url()+query)
			if err != nil {
				t.Fatal(err)
			}
			return suitelocks.Locks{Conn: c}
		},
	}
}

func TestQueueConformance(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel() // it waits for most of its time
			queuetest.Run(t, queueHarness(startOn(t, "mem://?min_ttl=50ms", nil), "?"+way))
		})
	}
}

func TestQueueConformanceOnDisk(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			d := startOn(t, "file://"+t.TempDir()+"?min_ttl=50ms", nil)
			h := queueHarness(d, "?"+way)
			h.Restart = func(t *testing.T) { d.restart(t) }
			queuetest.Run(t, h)
		})
	}
}
