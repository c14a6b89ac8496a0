package remote

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// The end of a connection is noticed when it comes, as after a kill of the
// daemon, and not when signs of life have been missed for long.
func TestTheEndOfAConnectionIsNoticedAtOnce(t *testing.T) {
	d := startOn(t, "mem://?min_ttl=50ms", nil)
	h := newHole(t, d.addr)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := queue.OpenConn(ctx, h.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := queue.OpenConn(ctx, d.url())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Declare(ctx, &driver.Topology{Queues: []driver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		_, err := conn.Receive(ctx, &driver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 1, Wait: 30 * time.Second})
		over <- err
	}()
	waitFor(ctx, t, "the receive waits", func() bool {
		stats, err := other.Stats(ctx, &driver.StatsRequest{Queue: "q", Max: 1})
		return err == nil && len(stats) == 1 && stats[0].Consumers == 1
	})
	h.close()
	if err := <-over; err == nil || strings.Contains(err.Error(), "sign of life") {
		t.Errorf("the receive ended with %v, want the end of the connection", err)
	}
}
