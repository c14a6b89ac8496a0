package store

import (
	"math"
	"slices"
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

const (
	// maxWaitBytes bounds the memory for the sets of all pieces together, that
	// of about 10,000,000 messages. What is scheduled past that gets a key of
	// its own, of the kind x.
	maxWaitBytes = 64 << 20

	// pieceIDs is how many messages a piece has before another is begun. A
	// cancel looks into the set of every piece, and reads those that it finds.
	pieceIDs = maxTags - waitChunk

	// smallBucket is how many messages a bucket must have had to be worth a
	// range delete before its time is over.
	smallBucket = 1024

	pieceBytes = idSetBytes + 24
	waitsBytes = 100 // of a bucket without its pieces
)

// waits are the ids of delayed messages, as sets in memory that say which
// records of the index may have one. Every batch is entered before it is
// applied. What was there at the open is entered in the background; who looks
// for an id waits for that.
type waits struct {
	limit int // maxWaitBytes, less in tests

	mu      sync.Mutex
	queues  map[uint32][]*bucketOfWaits // in no order
	bytes   int                         // of all sets
	keyed   map[uint32]bool             // queues that may have keys of the kind x
	loading *waitLoad                   // nil: everything is entered

	stop, loaded chan struct{}
	damaged      map[uint32]error // of queues with records that cannot be read
	failed       error            // not all records could be read
}

// bucketOfWaits is what is known of a bucket: its pieces in the order of
// their messages.
type bucketOfWaits struct {
	waitBucket
	n      int // messages that were noted in it, gone or not
	pieces []piece
}

// piece is some records in a row.
type piece struct {
	from  uint64 // the number of the first message
	n     int
	ids   idSet
	bytes int // of ids
}

// full reports whether there is no room for more.
func (w *waits) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes >= w.limit
}

// key notes that a queue has keys of the kind x.
func (w *waits) key(q uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keyed[q] = true
}

// hasKeys reports whether a queue may have keys of the kind x.
func (w *waits) hasKeys(q uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loading != nil || w.keyed[q]
}

// deadBucket is one whose records are of no use any more.
type deadBucket struct {
	q uint32
	waitBucket
}

// enter takes over the changes of a batch that is about to be applied, and
// returns the buckets whose records it may delete: none of those that it
// writes to.
func (w *waits) enter(ops *waitOps) (dead []deadBucket) {
	if ops == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range ops.ops {
		switch o := &ops.ops[i]; o.op {
		case noted, notedNew:
			w.add(o.q, o.in, &o.at, o.op == notedNew)
			dead = slices.DeleteFunc(dead, func(d deadBucket) bool { return d.q == o.q && d.waitBucket == o.in })
		case keyed:
			w.keyed[o.q] = true
		case passed:
			dead = w.pass(o.q, o.due, dead)
		case dropped:
			w.drop(o.q)
			dead = slices.DeleteFunc(dead, func(d deadBucket) bool { return d.q == o.q })
		}
	}
	return dead
}

func (w *waits) add(q uint32, in waitBucket, at *record.Waiting, begins bool) {
	bs := w.queues[q]
	i := slices.IndexFunc(bs, func(b *bucketOfWaits) bool { return b.waitBucket == in })
	if i < 0 {
		i = len(bs)
		bs = append(bs, &bucketOfWaits{waitBucket: in})
		w.queues[q] = bs
		w.bytes += waitsBytes
	}
	b := bs[i]
	b.n++
	if n := len(b.pieces); n == 0 || begins && b.pieces[n-1].n >= pieceIDs {
		b.pieces = append(b.pieces, piece{from: at.Seq})
		w.bytes += pieceBytes
	}
	p := &b.pieces[len(b.pieces)-1]
	p.n++
	grown := p.ids.add(tagOf(at.ID[:]))
	p.bytes += grown
	w.bytes += grown
}

// pass forgets the buckets of a queue of which nothing is left. While a small
// one is not over it stays on disk, or a queue with one message now and then
// would delete a range for each.
func (w *waits) pass(q uint32, due int64, dead []deadBucket) []deadBucket {
	if w.loading != nil {
		w.loading.pass(q, due)
	}
	bs := slices.DeleteFunc(w.queues[q], func(b *bucketOfWaits) bool {
		if !b.over(due) {
			return false
		}
		w.bytes -= b.memory()
		b.pieces = nil
		if due == math.MaxInt64 && b.n < smallBucket {
			return false
		}
		w.bytes -= waitsBytes
		dead = append(dead, deadBucket{q, b.waitBucket})
		return true
	})
	w.set(q, bs)
	return dead
}

// memory is that of the pieces.
func (b *bucketOfWaits) memory() int {
	n := 0
	for i := range b.pieces {
		n += pieceBytes + b.pieces[i].bytes
	}
	return n
}

func (w *waits) set(q uint32, bs []*bucketOfWaits) {
	if len(bs) > 0 {
		w.queues[q] = bs
	} else {
		delete(w.queues, q)
	}
}

// drop forgets a queue.
func (w *waits) drop(q uint32) {
	if w.loading != nil {
		w.loading.dropped[q] = true
	}
	for _, b := range w.queues[q] {
		w.bytes -= b.memory() + waitsBytes
	}
	delete(w.queues, q)
	delete(w.keyed, q)
	delete(w.damaged, q)
}

// span is a range of keys to be read.
type span struct{ lower, upper []byte }

// find returns which records may have an id, and an error about others of the
// queue that cannot be read.
func (w *waits) find(q uint32, hash [16]byte) (spans []span, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tag := tagOf(hash[:])
	for _, b := range w.queues[q] {
		for i := range b.pieces {
			if !b.pieces[i].ids.has(tag) {
				continue
			}
			s := span{appendWaitingKey(nil, q, b.waitBucket, b.pieces[i].from), nil}
			if i+1 < len(b.pieces) {
				s.upper = appendWaitingKey(nil, q, b.waitBucket, b.pieces[i+1].from)
			} else {
				s.upper = upTo(appendWaitBucket(nil, q, b.waitBucket))
			}
			spans = append(spans, s)
		}
	}
	if err = w.damaged[q]; err == nil {
		err = w.failed
	}
	return spans, err
}
