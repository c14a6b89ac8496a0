package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// Offsets calls fn for every consumer of a stream that has saved an offset, in
// byte order of their names.
func (s *Store) Offsets(q uint32, fn func(consumer string, offset uint64) error) error {
	prefix := appendQueueKey(nil, keyOffset, q)
	return each(s, prefix, appendQueueKey(nil, keyOffset, q+1), record.DecodeNumber, func(key []byte, offset uint64) error {
		return fn(string(key[len(prefix):]), offset)
	})
}

// Range reads messages from <= n < end of a stream, in order, as long as visit
// returns true. It passes over numbers that nothing lies under: retention has
// dropped them. One that is damaged ends it with an error.
func (s *Store) Range(q uint32, from, end uint64, visit func(n uint64, m *record.Message) bool) error {
	// A block lies in one segment: nothing before it can contain from.
	low := appendSeqKey(nil, keyBlock, q, from-from%record.SegmentSize)
	return s.read(func() error {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: appendSeqKey(nil, keyBlock, q, end)})
		if err != nil {
			return readError(low, err)
		}
		valid := it.SeekLT(append(appendSeqKey(nil, keyBlock, q, from), 0)) || it.First()
		err = s.visit(it, low, valid, from, end, visit)
		if errors.Is(err, errStop) {
			err = nil
		}
		return errors.Join(err, it.Close())
	})
}

// visit goes on from where the iterator is.
func (s *Store) visit(it *pebble.Iterator, low []byte, valid bool, from, end uint64, visit func(n uint64, m *record.Message) bool) error {
	last := slices.Clone(low)
	for ; valid; valid = it.Next() {
		last = append(last[:0], it.Key()...)
		value, err := it.ValueAndErr()
		if err != nil {
			return readError(last, err)
		}
		block, err := record.OpenBlock(last, value)
		if err != nil {
			return corrupt(last, err)
		}
		first := tail(last)
		for i := range block.Len() {
			n := first + uint64(i)
			if n < from || n >= end {
				continue
			}
			enc, err := block.Encoded(i)
			if err != nil {
				return corrupt(last, fmt.Errorf("message %d: %w", n, err))
			}
			m, err := record.DecodeMessage(slices.Clone(enc))
			if err != nil {
				return corrupt(last, fmt.Errorf("message %d: %w", n, err))
			}
			if !visit(n, m) {
				return errStop
			}
		}
	}
	if err := it.Error(); err != nil {
		return readError(last, err)
	}
	return nil
}

// SeekTime returns the first message from <= n < end of a stream that was
// stored at wall (Unix nanoseconds) or later, end if there is none. It goes by
// the stamps of the blocks, which never go back, and reads few of them.
func (s *Store) SeekTime(q uint32, from, end uint64, wall int64) (uint64, error) {
	for from < end {
		middle := from + (end-from)/2
		blocks, err := s.LoadIndex(q, middle, 1)
		if err != nil {
			return 0, err
		}
		switch {
		case len(blocks) == 0 || blocks[0].FirstSeq >= end:
			end = middle // what lay there was dropped
		case blocks[0].Published >= wall:
			end = min(middle, max(from, blocks[0].FirstSeq)) // all of the block
		default:
			from = blocks[0].FirstSeq + uint64(len(blocks[0].Entries))
		}
	}
	return end, nil
}
