package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// errStop ends a scan without an error.
var errStop = errors.New("stop")

// read runs fn while the store cannot be closed. What was read counts only if
// the store has not failed.
func (s *Store) read(fn func() error) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.exit()
	err := fn()
	if failed := s.failure.get(); failed != nil {
		return failed
	}
	return err
}

// readError names what could not be read.
func readError(key []byte, err error) error {
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return corrupt(key, err)
	}
	return fmt.Errorf("store: reading %s: %w", keyName(key), err)
}

// get returns a copy of the value under key, or nil and no error.
func (s *Store) get(key []byte) ([]byte, error) {
	sealed, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(key, err)
	}
	defer closer.Close()
	value, err := record.Unseal(key, sealed)
	if err != nil {
		return nil, corrupt(key, err)
	}
	return append([]byte{}, value...), nil
}

// scan calls fn with the keys in [lower, upper) and their values. Both are
// valid during the call only.
func (s *Store) scan(lower, upper []byte, fn func(key, value []byte) error) error {
	return s.scanPast(lower, upper, fn, nil)
}

// scanPast is scan, but it goes on behind a value that is not what was stored,
// with which it calls damaged.
func (s *Store) scanPast(lower, upper []byte, fn func(key, value []byte) error, damaged func(error)) error {
	return s.read(func() error {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return readError(lower, err)
		}
		return errors.Join(s.walk(it, lower, it.First(), fn, damaged), it.Close())
	})
}

// walk goes on from where the iterator is. damaged may be nil, see scanPast.
func (s *Store) walk(it *pebble.Iterator, lower []byte, valid bool, fn func(key, value []byte) error, damaged func(error)) error {
	last := slices.Clone(lower)
	for ; valid; valid = it.Next() {
		last = append(last[:0], it.Key()...)
		sealed, err := it.ValueAndErr()
		if err != nil {
			return readError(last, err)
		}
		value, err := record.Unseal(last, sealed)
		if err != nil && damaged != nil {
			damaged(corrupt(last, err))
			continue
		}
		if err != nil {
			return corrupt(last, err)
		}
		if n, ok := keyLengths[last[0]]; ok && n != len(last) {
			return corrupt(last, errors.New("the key's length is wrong"))
		}
		if err := fn(last, value); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return readError(last, err)
	}
	return nil
}

// each decodes every value in a range.
func each[T any](s *Store, lower, upper []byte, decode func([]byte) (T, error), fn func(key []byte, v T) error) error {
	return s.scan(lower, upper, func(key, value []byte) error {
		v, err := decode(value)
		if err != nil {
			return corrupt(key, err)
		}
		return fn(key, v)
	})
}

// Meta returns the store's own record.
func (s *Store) Meta() record.Meta {
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	return s.meta
}

// Locks calls fn for every lock, in byte order of the names. An error of fn
// ends it and is returned; so it is with all that take a function.
func (s *Store) Locks(fn func(name string, l *record.Lock) error) error {
	return each(s, []byte{keyLock}, []byte{keyLock + 1}, record.DecodeLock, func(key []byte, l *record.Lock) error {
		return fn(string(key[1:]), l)
	})
}

func eachTopology[T any](s *Store, part byte, decode func([]byte) (T, error), fn func(T) error) error {
	return each(s, []byte{keyTopology, part}, []byte{keyTopology, part + 1}, decode, func(_ []byte, v T) error { return fn(v) })
}

// Exchanges calls fn for every exchange.
func (s *Store) Exchanges(fn func(*queuedriver.Exchange) error) error {
	return eachTopology(s, topologyExchange, record.DecodeExchange, fn)
}

// Queues calls fn for every queue.
func (s *Store) Queues(fn func(*record.Queue) error) error {
	return eachTopology(s, topologyQueue, record.DecodeQueue, fn)
}

// Bindings calls fn for every binding.
func (s *Store) Bindings(fn func(*queuedriver.Binding) error) error {
	// The bytes among the arguments are part of the value: copy it.
	decode := func(b []byte) (*queuedriver.Binding, error) { return record.DecodeBinding(slices.Clone(b)) }
	return eachTopology(s, topologyBinding, decode, fn)
}

// Counters returns the counters of a queue, zero if none were stored.
func (s *Store) Counters(q uint32) (c record.Counters, err error) {
	key := appendQueueKey(nil, keyCounters, q)
	err = s.read(func() error {
		v, err := s.get(key)
		if v == nil || err != nil {
			return err
		}
		d, err := record.DecodeCounters(v)
		if err != nil {
			return corrupt(key, err)
		}
		c = *d
		return nil
	})
	return c, err
}

// Levels returns the levels of a queue, nil if none were stored.
func (s *Store) Levels(q uint32) (levels []record.Level, err error) {
	key := appendQueueKey(nil, keyLevels, q)
	err = s.read(func() error {
		v, err := s.get(key)
		if v == nil || err != nil {
			return err
		}
		if levels, err = record.DecodeLevels(v); err != nil {
			return corrupt(key, err)
		}
		return nil
	})
	return levels, err
}

func eachOfQueue[T any](s *Store, kind byte, q uint32, decode func([]byte) (T, error), fn func(n uint64, v T) error) error {
	return each(s, appendQueueKey(nil, kind, q), appendQueueKey(nil, kind, q+1), decode, func(key []byte, v T) error {
		return fn(tail(key), v)
	})
}

// Acks calls fn for every segment of the queue that has acks, in order.
func (s *Store) Acks(q uint32, fn func(segment uint64, a *record.AckSet) error) error {
	return eachOfQueue(s, keyAcks, q, record.DecodeAckSet, fn)
}

// Attempts calls fn for every message that has ended attempts, in order.
func (s *Store) Attempts(q uint32, fn func(seq uint64, a record.Attempt) error) error {
	return eachOfQueue(s, keyAttempt, q, record.DecodeAttempt, func(seq uint64, a *record.Attempt) error { return fn(seq, *a) })
}

// Fetches calls fn for every set of deliveries in flight, in order.
func (s *Store) Fetches(q uint32, fn func(fetch uint64, f *record.Fetch) error) error {
	return eachOfQueue(s, keyFetch, q, record.DecodeFetch, fn)
}

// NextDue returns when the queue's first delayed message is due, in Unix
// nanoseconds; 0 if there is none.
func (s *Store) NextDue(q uint32) (due int64, err error) {
	err = s.scan(appendQueueKey(nil, keyDelayed, q), appendQueueKey(nil, keyDelayed, q+1), func(key, _ []byte) error {
		due = dueOf(key)
		return errStop
	})
	return due, err
}
