package store

import "github.com/lockkeeper/lockkeeper/engine/internal/record"

// Store is an open store. Apply is for one goroutine at a time, so that the
// order of the batches is known; everything else may be called concurrently.
type Store struct{ meta record.Meta }

// Open opens the store, or makes it. See ErrLocked, ErrFormat, ErrCorrupt.
func Open(o Options) (*Store, error) { panic("sketch") }

// Close waits for calls under way, and closes. Batches applied and not waited
// for are made durable unless the store has failed. Idempotent.
func (s *Store) Close() error { panic("sketch") }

// Failed is closed when the store has failed.
func (s *Store) Failed() <-chan struct{} { panic("sketch") }

// Err returns what made the store fail, wrapped in ErrFailed; nil if it has not.
func (s *Store) Err() error { panic("sketch") }

// Room returns lease.ErrNoSpace while the disk has no room for more than the
// reserve: commands that make the store grow must be refused then. It is
// cheap enough to call for each round.
func (s *Store) Room() error { panic("sketch") }

// NewBatch returns an empty batch, for one Apply.
func (s *Store) NewBatch() *Batch { panic("sketch") }

// Apply makes the batch visible to reads and begins to make it durable. The
// batch must not be used afterwards. An error means that the store has failed
// or is closed.
func (s *Store) Apply(b *Batch) (*Pending, error) { panic("sketch") }

// Pending is a batch on its way to the disk.
type Pending struct{}

// Wait returns nil when the batch is durable. It must be called once at
// least, or the batch's memory is not reused; any number of goroutines may.
func (p *Pending) Wait() error { panic("sketch") }
