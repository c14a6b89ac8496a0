package remote

import (
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/allocs"
)

// TestAllocations keeps what a call over the session allocates, in the client,
// the server and the engine together. A change that needs less lowers the
// bounds.
func TestAllocations(t *testing.T) {
	c, err := New(t.Context(), startDaemon(t, nil), &Options{Session: SessionOn})
	if err != nil {
		t.Fatal(err)
	}
	locks, err := c.Locks()
	if err != nil {
		t.Fatal(err)
	}
	queues, err := c.Queues()
	if err != nil {
		t.Fatal(err)
	}
	allocs.Check(t, locks, queues, allocs.Bounds{
		Acquire: 24, Release: 16, Publish: 35,
		PublishBatch: 2.7, ReceiveBatch: 9.3, SettleBatch: 0.42,
	})
	if err := queues.Close(); err != nil {
		t.Error(err)
	}
	if err := locks.Close(); err != nil {
		t.Error(err)
	}
}
