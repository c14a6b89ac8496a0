package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// FindDelayed implements machine.View. After an open it waits until what lies
// where is known.
func (s *Store) FindDelayed(q uint32, id string) (at []record.DelayedAt, err error) {
	<-s.waits.loaded
	hash := hash128([]byte(id))
	if s.waits.hasKeys(q) {
		lower := appendCancelPrefix(nil, q, hash)
		err = s.scan(lower, upTo(lower), func(key, _ []byte) error {
			at = append(at, delayedAt(key))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	spans, damaged := s.waits.find(q, hash)
	for _, p := range spans {
		if at, err = s.findIn(p, hash, at); err != nil {
			return nil, err
		}
	}
	if len(at) == 0 && damaged != nil {
		return nil, damaged
	}
	slices.SortFunc(at, func(x, y record.DelayedAt) int { return cmp.Or(cmp.Compare(x.Due, y.Due), cmp.Compare(x.Seq, y.Seq)) })
	return slices.Compact(at), nil
}

// findIn appends where an id lies according to some records of the index. It
// is not taken out of them when its message is gone.
func (s *Store) findIn(p span, hash [16]byte, at []record.DelayedAt) ([]record.DelayedAt, error) {
	var found []record.DelayedAt
	err := s.scanPast(p.lower, p.upper, func(key, value []byte) error {
		ws, err := record.DecodeWaiting(value)
		if err != nil {
			return corrupt(key, err)
		}
		for i := range ws {
			if ws[i].ID == hash {
				found = append(found, ws[i].DelayedAt)
			}
		}
		return nil
	}, func(error) {}) // known already, see waits.damaged
	if err != nil {
		return at, err
	}
	q := binary.BigEndian.Uint32(p.lower[1:])
	err = s.read(func() error {
		for _, d := range found {
			key := appendDelayedKey(nil, q, d.Due, d.Seq)
			_, closer, err := s.db.Get(key)
			if errors.Is(err, pebble.ErrNotFound) {
				continue
			}
			if err != nil {
				return readError(key, err)
			}
			at = append(at, d)
			if err := closer.Close(); err != nil {
				return readError(key, err)
			}
		}
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
	done, err := s.get(waitsKey)
	if done != nil || err != nil {
		return err
	}
	b := s.db.NewBatch()
	if done, err = s.get(indexKey); done == nil && err == nil {
		b, err = s.indexAll(b)
	}
	if err != nil {
		must(b.Close())
		return err
	}
	// A program from before there was w must not take x for whole.
	must(b.Delete(indexKey, nil))
	must(b.Set(waitsKey, record.Seal(waitsKey, record.AppendNumber(nil, 1)), nil))
	if err := s.db.Apply(b, s.firstWrite()); err != nil {
		return err
	}
	return b.Close()
}

// indexAll makes a key of the kind x for every delayed message. It returns
// the last batch, which is not applied.
func (s *Store) indexAll(b *pebble.Batch) (*pebble.Batch, error) {
	err := s.scanPast([]byte{keyDelayed}, []byte{keyDelayed + 1}, func(key, value []byte) error {
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
	return b, err
}
