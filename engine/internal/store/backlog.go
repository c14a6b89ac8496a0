package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// dueOf reads the due time of a key of a delayed message.
func dueOf(key []byte) int64 { return unordered(binary.BigEndian.Uint64(key[5:])) }

// maxDamaged bounds how many damaged values one error names.
const maxDamaged = 10

// LoadDue implements machine.View: it returns the delayed messages at from or
// behind it that are due at upTo or before, in order of their due times, until
// there are maxCount or their bodies reach maxBytes (one is always returned).
// next is when the first
// one not returned is due, in Unix nanoseconds, 0 if there is none. An error
// together with messages or next is about some others that are damaged.
func (s *Store) LoadDue(q uint32, from record.DelayedAt, upTo int64, maxCount, maxBytes int) (ds []record.Delayed, next int64, err error) {
	bytes := 0
	var bad []error
	err = s.scanPast(appendDelayedKey(nil, q, from.Due, from.Seq), appendQueueKey(nil, keyDelayed, q+1), func(key, value []byte) error {
		due := dueOf(key)
		if due > upTo || len(ds) >= maxCount || len(ds) > 0 && bytes >= maxBytes {
			next = due
			return errStop
		}
		d, err := record.DecodeDelayed(slices.Clone(value))
		if err != nil {
			return corrupt(key, err)
		}
		bytes += len(d.Body)
		ds = append(ds, *d)
		return nil
	}, func(err error) {
		if len(bad) < maxDamaged {
			bad = append(bad, err)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	return ds, next, errors.Join(bad...)
}

// LoadIndex implements machine.View: it returns the index of whole blocks in
// order, from the block that contains fromSeq or the first one behind it,
// until they have maxEntries entries or more, or there are no more.
func (s *Store) LoadIndex(q uint32, fromSeq uint64, maxEntries int) (blocks []record.IndexBlock, err error) {
	from, end := appendSeqKey(nil, keyIndex, q, fromSeq), appendSeqEnd(nil, keyIndex, q)
	err = s.read(func() error {
		// A block lies in one segment: nothing before it can contain fromSeq.
		low := appendSeqKey(nil, keyIndex, q, fromSeq-fromSeq%record.SegmentSize)
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: end})
		if err != nil {
			return readError(low, err)
		}
		valid := it.SeekLT(append(from, 0)) || it.First()
		entries := 0
		err = s.walk(it, low, valid, func(key, value []byte) error {
			x, err := record.DecodeIndexBlock(value)
			if err != nil {
				return corrupt(key, err)
			}
			if x.FirstSeq+uint64(len(x.Entries)) <= fromSeq {
				return nil
			}
			if entries >= maxEntries {
				return errStop
			}
			entries += len(x.Entries)
			blocks = append(blocks, *x)
			return nil
		}, nil)
		return errors.Join(err, it.Close())
	})
	if err != nil {
		return nil, err
	}
	return blocks, nil
}

// Message implements machine.View. The message is the caller's.
// lease.ErrNotFound means that there is no such message.
func (s *Store) Message(q uint32, blockFirst, seq uint64) (*record.Message, error) {
	ms, err := s.Messages(q, blockFirst, []uint64{seq})
	if err != nil {
		return nil, err
	}
	return ms[0], nil
}

// Messages returns several messages of one block, in the order of seqs: one
// read of the block. Those that cannot be read are nil, and the error says
// why; if none can be, there may be no slice. A blockFirst of 0 means that it
// is not known, see machine.View.
func (s *Store) Messages(q uint32, blockFirst uint64, seqs []uint64) (ms []*record.Message, err error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	err = s.read(func() error {
		if blockFirst == 0 {
			if blockFirst, err = s.findBlock(q, seqs[0]); err != nil {
				return err
			}
		}
		key := appendSeqKey(nil, keyBlock, q, blockFirst)
		value, closer, err := s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return fmt.Errorf("store: %s: %w", keyName(key), lease.ErrNotFound)
		}
		if err != nil {
			return readError(key, err)
		}
		defer closer.Close()
		ms, err = pick(key, value, blockFirst, seqs)
		return err
	})
	if s.failure.failed() {
		ms = nil
	}
	return ms, err
}

// pick copies messages out of an encoded block, see Messages.
func pick(key, value []byte, first uint64, seqs []uint64) ([]*record.Message, error) {
	block, err := record.OpenBlock(key, value)
	if err != nil {
		return nil, corrupt(key, err)
	}
	ms := make([]*record.Message, len(seqs))
	var errs []error
	for i, seq := range seqs {
		if seq < first || seq-first >= uint64(block.Len()) {
			errs = append(errs, fmt.Errorf("store: message %d, not in %s: %w", seq, keyName(key), lease.ErrNotFound))
			continue
		}
		enc, err := block.Encoded(int(seq - first))
		if err == nil {
			ms[i], err = record.DecodeMessage(slices.Clone(enc))
		}
		if err != nil {
			errs = append(errs, corrupt(key, fmt.Errorf("message %d: %w", seq, err)))
		}
	}
	return ms, errors.Join(errs...)
}

// findBlock returns the first number of the block that may contain seq.
func (s *Store) findBlock(q uint32, seq uint64) (uint64, error) {
	low := appendSeqKey(nil, keyBlock, q, seq-seq%record.SegmentSize)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: append(appendSeqKey(nil, keyBlock, q, seq), 0)})
	if err != nil {
		return 0, readError(low, err)
	}
	if !it.Last() {
		err := it.Close()
		if err != nil {
			return 0, readError(low, err)
		}
		return 0, fmt.Errorf("store: message %d of queue %d: %w", seq, q, lease.ErrNotFound)
	}
	first := tail(it.Key())
	return first, it.Close()
}
