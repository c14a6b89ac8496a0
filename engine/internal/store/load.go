package store

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Meta returns the store's own record.
func (s *Store) Meta() record.Meta { panic("sketch") }

// Locks calls fn for every lock, in byte order of the names. An error of fn
// ends it and is returned; so it is with all that take a function.
func (s *Store) Locks(fn func(name string, l *record.Lock) error) error { panic("sketch") }

// Exchanges calls fn for every exchange.
func (s *Store) Exchanges(fn func(*queuedriver.Exchange) error) error { panic("sketch") }

// Queues calls fn for every queue.
func (s *Store) Queues(fn func(*record.Queue) error) error { panic("sketch") }

// Bindings calls fn for every binding.
func (s *Store) Bindings(fn func(*queuedriver.Binding) error) error { panic("sketch") }

// Counters returns the counters of a queue, zero if none were stored.
func (s *Store) Counters(q uint32) (record.Counters, error) { panic("sketch") }

// Acks calls fn for every segment of the queue that has acks, in order.
func (s *Store) Acks(q uint32, fn func(segment uint64, a *record.AckSet) error) error {
	panic("sketch")
}

// Attempts calls fn for every message that has ended attempts, in order.
func (s *Store) Attempts(q uint32, fn func(seq uint64, a record.Attempt) error) error {
	panic("sketch")
}

// Fetches calls fn for every set of deliveries in flight, in order.
func (s *Store) Fetches(q uint32, fn func(fetch uint64, f *record.Fetch) error) error {
	panic("sketch")
}

// NextDue returns when the queue's first delayed message is due, in Unix
// nanoseconds; 0 if there is none.
func (s *Store) NextDue(q uint32) (int64, error) { panic("sketch") }

// LoadDue returns the delayed messages due at upTo or before, in order of
// their due times, until there are maxCount or their bodies reach maxBytes (at
// least one is returned). next is when the first one not returned is due, 0
// if there is none.
func (s *Store) LoadDue(q uint32, upTo int64, maxCount, maxBytes int) (ds []record.Delayed, next int64, err error) {
	panic("sketch")
}

// LoadIndex returns the index of whole blocks in order, from the block that
// contains fromSeq or the first one behind it, until they have maxEntries
// entries or more, or there are no more.
func (s *Store) LoadIndex(q uint32, fromSeq uint64, maxEntries int) ([]record.IndexBlock, error) {
	panic("sketch")
}

// Message implements machine.View.
func (s *Store) Message(q uint32, blockFirst, seq uint64) (*record.Message, error) { panic("sketch") }

// Messages returns several messages of one block, in the order of seqs: one
// read of the block.
func (s *Store) Messages(q uint32, blockFirst uint64, seqs []uint64) ([]*record.Message, error) {
	panic("sketch")
}

// Seen implements machine.View.
func (s *Store) Seen(q uint32, from, to int64, id string) (bool, error) { panic("sketch") }
