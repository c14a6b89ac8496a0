package store

import (
	"encoding/binary"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// FindDelayed implements machine.View.
func (s *Store) FindDelayed(q uint32, id string) (at []record.DelayedAt, err error) {
	lower := appendCancelPrefix(nil, q, hash128([]byte(id)))
	err = s.scan(lower, upTo(lower), func(key, _ []byte) error {
		at = append(at, delayedAt(key))
		return nil
	})
	return at, err
}

// delayedAt reads the end of a key of the index.
func delayedAt(key []byte) record.DelayedAt {
	return record.DelayedAt{Due: unordered(binary.BigEndian.Uint64(key[len(key)-16:])), Seq: tail(key)}
}

// upTo returns the first key behind all that begin with prefix.
func upTo(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

// indexBatch bounds a batch of indexDelayed, in bytes.
const indexBatch = 1 << 20

// indexDelayed makes the index of delayed messages by their ids in a store
// from before there was one. A damaged message is left out; it is reported
// when it comes due.
func (s *Store) indexDelayed() error {
	done, err := s.get(indexKey)
	if done != nil || err != nil {
		return err
	}
	b := s.db.NewBatch()
	err = s.scanPast([]byte{keyDelayed}, []byte{keyDelayed + 1}, func(key, value []byte) error {
		d, err := record.DecodeDelayed(value)
		if err != nil || d.ID == "" {
			return nil //nolint:nilerr // see above
		}
		x := appendCancelKey(nil, binary.BigEndian.Uint32(key[1:]), hash128([]byte(d.ID)), delayedAt(key))
		if err := b.Set(x, record.Seal(x, nil), nil); err != nil {
			return err
		}
		if b.Len() < indexBatch {
			return nil
		}
		if err := s.db.Apply(b, s.firstWrite()); err != nil {
			return err
		}
		must(b.Close())
		b = s.db.NewBatch()
		return nil
	}, func(error) {})
	if err != nil {
		must(b.Close())
		return err
	}
	must(b.Set(indexKey, record.Seal(indexKey, record.AppendNumber(nil, 1)), nil))
	if err := s.db.Apply(b, s.firstWrite()); err != nil {
		return err
	}
	return b.Close()
}
