package store

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// PutSeen implements machine.Changes.
func (b *Batch) PutSeen(q uint32, bucket int64, id string) {
	b.key = appendSeenKey(b.key[:0], q, bucket, hash128([]byte(id)))
	b.hold(putKey)
}

// DropSeen implements machine.Changes.
func (b *Batch) DropSeen(q uint32, below int64) {
	b.noteDrop(q, below)
	b.key = appendQueueKey(b.key[:0], keySeen, q)
	b.end = appendSeenBucket(b.end[:0], q, below)
	b.deleteRange()
}

// Seen implements machine.View. It reads those buckets only that may have the
// id: for one that is new, usually none.
func (s *Store) Seen(q uint32, from, to int64, id string) (seen bool, err error) {
	hash := hash128([]byte(id))
	err = s.read(func() error {
		var key []byte
		for bucket := from; bucket <= to; bucket++ {
			if !s.ids.may(q, bucket, tagOf(hash[:])) {
				continue
			}
			key = appendSeenKey(key[:0], q, bucket, hash)
			v, err := s.get(key)
			if err != nil {
				return err
			}
			if v != nil {
				seen = true
				return nil
			}
		}
		return nil
	})
	return seen, err
}

// maxIDBytes bounds the memory for the sets of all buckets together, that of
// about 10,000,000 ids. A bucket that would need more has no set any more: its
// ids are looked for in the store.
const maxIDBytes = 64 << 20

// ids are the dedup ids of the store, as sets in memory that spare a read for
// those that it does not have. Every batch is entered before it is applied;
// what was there at the open is entered in the background, and until that is
// done every id may be there.
type ids struct {
	limit int // maxIDBytes, less in tests

	mu      sync.Mutex
	queues  map[uint32][]idBucket // those that have ids, in no order
	bytes   int                   // of all sets
	known   bool                  // every bucket that has ids is in queues
	dropped map[uint32]int64      // while load runs: the buckets before this one were dropped

	stop, stopped chan struct{} // nil: there was nothing to be entered
}

type idBucket struct {
	number int64
	set    *idSet // nil: there is no room for it
	bytes  int
}

// bucketBytes are about those of a bucket without the ids in it.
const bucketBytes = idSetBytes + 100

// may reports whether the bucket may have an id.
func (d *ids) may(q uint32, bucket int64, tag uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return true
	}
	for _, b := range d.queues[q] {
		if b.number == bucket {
			return b.set == nil || b.set.has(tag)
		}
	}
	return false
}

// enter takes over the changes of a batch that is about to be applied.
func (d *ids) enter(h *hashKeys) {
	if h == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range h.keys {
		k := &h.keys[i]
		if k.key[0] != keySeen {
			continue
		}
		id := idOf(k.key[:])
		switch k.op {
		case putKey:
			d.add(id)
		case dropIDs:
			d.drop(id.q, id.bucket)
		case deleteKey: // no id is deleted alone
		}
	}
}

// idKey is the key of an id, as far as it matters here.
type idKey struct {
	q      uint32
	bucket int64
	tag    uint32
}

func idOf(key []byte) idKey {
	return idKey{binary.BigEndian.Uint32(key[1:]), unordered(binary.BigEndian.Uint64(key[5:])), tagOf(key[13:])}
}

func (d *ids) add(id idKey) {
	bs := d.queues[id.q]
	i := slices.IndexFunc(bs, func(b idBucket) bool { return b.number == id.bucket })
	if i < 0 {
		i = len(bs)
		bs = append(bs, idBucket{number: id.bucket, set: new(idSet), bytes: bucketBytes})
		d.queues[id.q] = bs
		d.bytes += bucketBytes
	}
	b := &bs[i]
	if b.set == nil {
		return
	}
	grown := b.set.add(id.tag)
	b.bytes += grown
	d.bytes += grown
	if d.bytes > d.limit {
		d.bytes -= b.bytes
		b.set, b.bytes = nil, 0
	}
}

// drop forgets the buckets of a queue before below.
func (d *ids) drop(q uint32, below int64) {
	if d.dropped != nil {
		if before, ok := d.dropped[q]; !ok || before < below {
			d.dropped[q] = below
		}
	}
	bs := slices.DeleteFunc(d.queues[q], func(b idBucket) bool {
		if b.number < below {
			d.bytes -= b.bytes
		}
		return b.number < below
	})
	if len(bs) > 0 {
		d.queues[q] = bs
	} else {
		delete(d.queues, q)
	}
}

// openIDs begins to enter the ids that the store has.
func (s *Store) openIDs() error {
	d := &s.ids
	d.limit, d.queues = maxIDBytes, make(map[uint32][]idBucket)
	it, err := d.begin(s.db)
	if it != nil {
		d.stop = make(chan struct{})
		go d.load(it, s.opts.Logger.Warn)
	}
	return err
}

// begin returns what load is to go through, nil if there are no ids.
func (d *ids) begin(db *pebble.DB) (*pebble.Iterator, error) {
	lower := []byte{keySeen}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{keySeen + 1}})
	if err != nil {
		return nil, readError(lower, err)
	}
	if it.First() {
		d.dropped, d.stopped = make(map[uint32]int64), make(chan struct{})
		return it, nil
	}
	d.known = it.Error() == nil
	if err := it.Close(); d.known && err != nil {
		return nil, readError(lower, err)
	}
	return nil, nil //nolint:nilnil // see above; damage is for who looks for an id
}

// loadBatch is how many ids are entered at once, before others have their turn.
const loadBatch = 256

// load enters the ids from where it is on: those of the open, without what has
// been dropped since. If they cannot be read, every id is looked for in the
// store for as long as it is open, and who looks for one is told the error.
func (d *ids) load(it *pebble.Iterator, warn func(string, ...any)) {
	defer close(d.stopped)
	batch := make([]idKey, 0, loadBatch)
	for valid := true; valid; {
		select {
		case <-d.stop:
			it.Close() //nolint:errcheck // nobody asks any more
			return
		default:
		}
		for batch = batch[:0]; valid && len(batch) < loadBatch; valid = it.Next() {
			if key := it.Key(); len(key) == keyLengths[keySeen] {
				batch = append(batch, idOf(key))
			}
		}
		d.mu.Lock()
		for _, id := range batch {
			if below, ok := d.dropped[id.q]; !ok || id.bucket >= below {
				d.add(id)
			}
		}
		d.mu.Unlock()
	}
	if err := it.Close(); err != nil {
		warn("store: the dedup ids cannot be read: each publish looks for its id on disk", "err", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known, d.dropped = true, nil
}

// close ends what openIDs has begun.
func (d *ids) close() {
	if d.stop != nil {
		close(d.stop)
		<-d.stopped
	}
}
