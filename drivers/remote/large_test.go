package remote

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/server"
)

// busyQueues take long for a commit or a publish, as if each came over a slow
// line.
type busyQueues struct {
	queuedriver.Conn
	takes time.Duration
}

func (b busyQueues) Commit(ctx context.Context, t *queuedriver.Txn) (*queuedriver.TxnResult, error) {
	<-time.After(b.takes)
	return b.Conn.Commit(ctx, t)
}

func (b busyQueues) Publish(ctx context.Context, ps []queuedriver.Publishing) ([]queuedriver.Receipt, error) {
	<-time.After(b.takes)
	return b.Conn.Publish(ctx, ps)
}

// TestLargeCallsHaveMoreTime than the timeout, which is for small ones.
func TestLargeCallsHaveMoreTime(t *testing.T) {
	t.Parallel()
	url := startDaemon(t, func(c *server.Config) { c.Queues = busyQueues{c.Queues, 3 * time.Second} })
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c, err := Open(t.Context(), url+"?timeout=2s&"+way)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := c.Queues()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			name := "q " + way
			if _, err := conn.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: name}}}, false); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 4)
			for _, size := range []int{1, 2 << 20} {
				ps := []queuedriver.Publishing{{Route: queuedriver.Route{Key: name}, Message: &queuedriver.Message{Body: make([]byte, size)}}}
				want := func(err error) error {
					if size == 1 && errors.Is(err, lease.ErrUnknown) || size > 1 && err == nil {
						return nil
					}
					return errors.Join(fmt.Errorf("%d bytes", size), err)
				}
				go func() {
					_, err := conn.Commit(t.Context(), &queuedriver.Txn{Publish: ps})
					done <- want(err)
				}()
				go func() {
					_, err := conn.Publish(t.Context(), ps)
					done <- want(err)
				}()
			}
			for range cap(done) {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
