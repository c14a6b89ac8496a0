package kafka

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

func TestMain(m *testing.M) {
	if playConsumer() {
		return
	}
	os.Exit(realserver.Run(m))
}

func openURL(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := Open(context.Background(), url) // the suite opens one in a cleanup too
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forgets deletes what a test declared, so that it can run again on its broker.
func forgets(t *testing.T, c driver.Conn, top *driver.Topology) {
	t.Helper()
	for i := range top.Queues {
		if err := c.Delete(t.Context(), &driver.DeleteRequest{Queue: top.Queues[i].Name}); err != nil {
			t.Error(err)
		}
	}
	for i := range top.Exchanges {
		if err := c.Delete(t.Context(), &driver.DeleteRequest{Exchange: top.Exchanges[i].Name}); err != nil {
			t.Error(err)
		}
	}
}

// suiteLease outlasts a stall of a loaded machine.
const suiteLease = 500 * time.Millisecond

// TestOrdered: the suite expects what is published first to come first, also of
// different keys, which one partition gives.
func TestOrdered(t *testing.T) {
	t.Parallel()
	s := realserver.SharedKafka(t)
	queuetest.Run(t, queuetest.Harness{
		Open: func(t *testing.T) driver.Conn {
			t.Helper()
			return openURL(t, "kafka://"+s.Addr()+"?partitions=1&prefix=suite.")
		},
		Lease: suiteLease,
	})
}
