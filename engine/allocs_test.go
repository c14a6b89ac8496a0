package engine

import (
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/allocs"
)

// TestAllocations keeps what the engine allocates on its most used ways, its
// store included. A change that needs less lowers the bounds.
func TestAllocations(t *testing.T) {
	e := open(t, "mem://", nil)
	allocs.Check(t, e.Locks(), e.Queues(), allocs.Bounds{
		Acquire: 17, Release: 10, Publish: 19,
		PublishBatch: 0.35, ReceiveBatch: 5.6, SettleBatch: 0.2,
	})
}
