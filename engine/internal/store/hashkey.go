package store

import (
	"bytes"
	"slices"
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// hashKey is a change under a key that has a hash in it and no value: a dedup
// id, or the place of a delayed message under its id. These keys lie far
// apart, and each costs a search of its own in the memtable. So a batch keeps
// them back and writes them in order of the keys: each search goes on from the
// one before, and those under other keys are not led astray.
type hashKey struct {
	key [maxHashKey]byte
	len uint8
	op  hashOp
	at  uint32 // its place in the batch
}

type hashOp uint8

const (
	putKey hashOp = iota
	deleteKey
	dropIDs // not of one key: the ids of a queue before this bucket were dropped
)

// maxHashKey is the length of the longest of these keys, those of the kind x.
const maxHashKey = 37

// hashKeyBytes is about what one adds to a batch.
const hashKeyBytes = maxHashKey + record.SealSize + 4

// hashKeys are those of a batch.
type hashKeys struct {
	keys    []hashKey
	written int // how many of them are in the Pebble batch
}

var freeHashKeys = sync.Pool{New: func() any { return new(hashKeys) }}

// hold keeps a change under b.key back.
func (b *Batch) hold(op hashOp) {
	if b.hashed == nil {
		b.hashed = freeHashKeys.Get().(*hashKeys) //nolint:forcetypeassert // the pool has nothing else
	}
	h := b.hashed
	k := hashKey{len: uint8(len(b.key)), op: op, at: uint32(len(h.keys))}
	copy(k.key[:], b.key)
	h.keys = append(h.keys, k)
}

// noteDrop notes among the changes that all ids of a queue in buckets before
// this one are dropped next.
func (b *Batch) noteDrop(q uint32, below int64) {
	b.writeHeld()
	b.key = appendSeenBucket(b.key[:0], q, below)
	b.hold(dropIDs)
	b.hashed.written++
}

// held is how many changes are kept back.
func (b *Batch) held() int {
	if b.hashed == nil {
		return 0
	}
	return len(b.hashed.keys) - b.hashed.written
}

// writeHeld writes what is kept back. It must be called before any other change
// of such keys.
func (b *Batch) writeHeld() {
	if b.held() == 0 {
		return
	}
	ks := b.hashed.keys[b.hashed.written:]
	slices.SortFunc(ks, func(x, y hashKey) int {
		if c := bytes.Compare(x.key[:x.len], y.key[:y.len]); c != 0 {
			return c
		}
		return int(x.at) - int(y.at)
	})
	for i := range ks {
		k := &ks[i]
		b.key = append(b.key[:0], k.key[:k.len]...)
		if k.op == deleteKey {
			b.delete()
			continue
		}
		b.value = b.value[:0]
		b.put()
	}
	b.hashed.written = len(b.hashed.keys)
}

// freeHeld ends the use of the changes that were kept back.
func (b *Batch) freeHeld() {
	if h := b.hashed; h != nil {
		b.hashed = nil
		h.keys, h.written = h.keys[:0], 0
		freeHashKeys.Put(h)
	}
}
