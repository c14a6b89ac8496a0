package store

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// waitBucket is the part of a queue's index of delayed messages by their ids
// in which a message is noted: by when it is due, in buckets whose width is
// about how long it was to wait when it was published, so that what is no
// longer of use in one is gone not much later than what is.
type waitBucket struct {
	class  byte
	number int64
}

// minBucket is the width of the buckets of class 0; those of the next class
// are four times as wide. Narrower ones would be dropped too often.
const minBucket = 64 * time.Second

// maxWaitClass has buckets of 136 years.
const maxWaitClass = 13

func (w waitBucket) width() int64 { return int64(minBucket) << (2 * w.class) }

// bucketOf returns the bucket of a message: the first four of its class at
// least reach from when it was published to when it is due.
func bucketOf(published, due int64) waitBucket {
	wait := uint64(max(due, published)) - uint64(published)
	w := waitBucket{}
	for w.class < maxWaitClass && wait > 4*uint64(w.width()) {
		w.class++
	}
	w.number = due / w.width()
	if due < 0 && due%w.width() != 0 {
		w.number--
	}
	return w
}

// over reports whether everything in the bucket is due before this time.
func (w waitBucket) over(due int64) bool {
	return due == math.MaxInt64 || w.number < math.MaxInt64/w.width() && (w.number+1)*w.width() <= due
}

// waitChunk is how many messages one record of the index has at most.
const waitChunk = 1024

// waitOp is a change of the index. As with hashKey, a batch keeps them back:
// those of one bucket become one record, or few.
type waitOp struct {
	op  waitKind
	q   uint32
	in  waitBucket
	at  record.Waiting
	due int64 // passed: see machine.Changes
}

// waitOpBytes is about what one adds to a batch.
const waitOpBytes = 20

type waitKind uint8

const (
	noted    waitKind = iota // a message waits
	notedNew                 // a message waits, and a record begins with it
	keyed                    // a message has a key of the kind x
	passed                   // all before due are gone
	dropped                  // all are gone
)

// waitOps are those of a batch.
type waitOps struct {
	ops     []waitOp
	written int              // how many of them are in the Pebble batch
	chunk   []record.Waiting // scratch
}

var freeWaitOps = sync.Pool{New: func() any { return new(waitOps) }}

func (b *Batch) waitOp(op waitOp) {
	if b.waits == nil {
		b.waits = freeWaitOps.Get().(*waitOps) //nolint:forcetypeassert // the pool has nothing else
	}
	b.waits.ops = append(b.waits.ops, op)
}

// heldWaits is how many messages are to be noted.
func (b *Batch) heldWaits() int {
	if b.waits == nil {
		return 0
	}
	return len(b.waits.ops) - b.waits.written
}

// writeWaits writes what is kept back. It must be called before the index is
// dropped.
func (b *Batch) writeWaits() {
	if b.heldWaits() == 0 {
		return
	}
	w := b.waits
	for left := w.ops[w.written:]; len(left) > 0; {
		n := slices.IndexFunc(left, func(o waitOp) bool { return o.op != noted })
		if n < 0 {
			n = len(left)
		}
		b.writeNoted(left[:n])
		left = left[min(n+1, len(left)):]
	}
	w.written = len(w.ops)
}

// writeNoted writes the records of some messages.
func (b *Batch) writeNoted(ops []waitOp) {
	slices.SortFunc(ops, func(x, y waitOp) int {
		return cmp.Or(cmp.Compare(x.q, y.q), cmp.Compare(x.in.class, y.in.class), cmp.Compare(x.in.number, y.in.number), cmp.Compare(x.at.Seq, y.at.Seq))
	})
	for i := 0; i < len(ops); {
		first := &ops[i]
		first.op = notedNew
		chunk := b.waits.chunk[:0]
		for ; i < len(ops) && ops[i].q == first.q && ops[i].in == first.in && len(chunk) < waitChunk; i++ {
			chunk = append(chunk, ops[i].at)
		}
		b.key = appendWaitingKey(b.key[:0], first.q, first.in, first.at.Seq)
		b.value = record.AppendWaiting(b.value[:0], chunk)
		b.put()
		b.waits.chunk = chunk
	}
}

// dropWaits notes that all of a queue are dropped next.
func (b *Batch) dropWaits(q uint32) {
	b.waitOp(waitOp{op: dropped, q: q})
	b.writeWaits()
}

// freeWaits ends the use of the changes that were kept back.
func (b *Batch) freeWaits() {
	if w := b.waits; w != nil {
		b.waits = nil
		w.ops, w.written = w.ops[:0], 0
		freeWaitOps.Put(w)
	}
}

func appendWaitBucket(b []byte, q uint32, w waitBucket) []byte {
	return binary.BigEndian.AppendUint64(append(appendQueueKey(b, keyWaiting, q), w.class), ordered(w.number))
}

func appendWaitingKey(b []byte, q uint32, w waitBucket, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendWaitBucket(b, q, w), seq)
}

// waitBucketOf reads the bucket of a key of the index.
func waitBucketOf(key []byte) waitBucket {
	return waitBucket{key[5], unordered(binary.BigEndian.Uint64(key[6:]))}
}
