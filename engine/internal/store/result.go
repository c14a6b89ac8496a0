package store

import (
	"encoding/binary"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// PutResult implements machine.Changes.
func (b *Batch) PutResult(class byte, bucket int64, id string, r *record.Result) {
	b.key = appendResultKey(b.key[:0], class, bucket, hash128([]byte(id)))
	b.value = record.AppendResult(b.value[:0], r)
	b.put()
}

// DropResults implements machine.Changes.
func (b *Batch) DropResults(class byte, below int64) {
	b.key = append(b.key[:0], keyResult, class)
	b.end = appendResultBucket(b.end[:0], class, below)
	b.deleteRange()
}

// Result implements machine.View.
func (s *Store) Result(class byte, bucket int64, id string) (r *record.Result, err error) {
	key := appendResultKey(nil, class, bucket, hash128([]byte(id)))
	err = s.read(func() error {
		v, err := s.get(key)
		if v == nil || err != nil {
			return err
		}
		if r, err = record.DecodeResult(v); err != nil {
			return corrupt(key, err)
		}
		return nil
	})
	return r, err
}

// ResultBuckets calls fn for every bucket that has results, in order. It
// reads one key of each.
func (s *Store) ResultBuckets(fn func(class byte, bucket int64) error) error {
	lower := []byte{keyResult}
	for {
		var class byte
		var bucket int64
		some := false
		err := s.scan(lower, []byte{keyResult + 1}, func(key, _ []byte) error {
			some, class, bucket = true, key[1], unordered(binary.BigEndian.Uint64(key[2:]))
			lower = slices.Concat(key[:10], last128) // go on behind the bucket
			return errStop
		})
		if err != nil || !some {
			return err
		}
		if err := fn(class, bucket); err != nil {
			return err
		}
	}
}

// last128 is behind every hash but the last, followed by one byte more.
var last128 = slices.Concat(slices.Repeat([]byte{0xff}, 16), []byte{0})

func appendResultBucket(b []byte, class byte, bucket int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, keyResult, class), ordered(bucket))
}

func appendResultKey(b []byte, class byte, bucket int64, hash [16]byte) []byte {
	return append(appendResultBucket(b, class, bucket), hash[:]...)
}
