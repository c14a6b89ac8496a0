package store

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// waitLoad is what happened since the open to what is still to be entered.
type waitLoad struct {
	passed  map[uint32]int64
	dropped map[uint32]bool
}

func (l *waitLoad) pass(q uint32, due int64) {
	if before, ok := l.passed[q]; !ok || before < due {
		l.passed[q] = due
	}
}

// openWaits begins to enter what the store has.
func (s *Store) openWaits() error {
	w := &s.waits
	w.limit, w.queues, w.keyed, w.damaged = maxWaitBytes, make(map[uint32][]*bucketOfWaits), make(map[uint32]bool), make(map[uint32]error)
	w.stop, w.loaded = make(chan struct{}), make(chan struct{})
	records, err := s.iterKind(keyWaiting)
	if err != nil {
		return err
	}
	keys, err := s.iterKind(keyCancel)
	if err != nil {
		return errors.Join(err, records.Close())
	}
	none := !records.First() && !keys.First()
	if none && records.Error() == nil && keys.Error() == nil {
		close(w.loaded)
		return errors.Join(records.Close(), keys.Close())
	}
	w.loading = &waitLoad{passed: make(map[uint32]int64), dropped: make(map[uint32]bool)}
	go s.loadWaits(records, keys)
	return nil
}

func (s *Store) iterKind(kind byte) (*pebble.Iterator, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return nil, readError([]byte{kind}, err)
	}
	return it, nil
}

// loadWaits enters what the store had when it was opened.
func (s *Store) loadWaits(records, keys *pebble.Iterator) {
	w := &s.waits
	defer close(w.loaded)
	old := &waits{queues: make(map[uint32][]*bucketOfWaits), keyed: make(map[uint32]bool), damaged: make(map[uint32]error)}
	for ok := records.First(); ok; ok = records.Next() {
		select {
		case <-w.stop:
			errors.Join(records.Close(), keys.Close()) //nolint:errcheck // nobody asks any more
			return
		default:
			old.enterRecord(records)
		}
	}
	for ok := keys.First(); ok; {
		q := binary.BigEndian.Uint32(keys.Key()[1:])
		old.keyed[q] = true
		ok = q < math.MaxUint32 && keys.SeekGE(appendQueueKey(nil, keyCancel, q+1))
	}
	if err := errors.Join(records.Close(), keys.Close()); err != nil {
		old.failed = readError([]byte{keyWaiting}, err)
		s.opts.Logger.Warn("store: where scheduled messages lie cannot be read: some cannot be cancelled", "err", err)
	}
	w.merge(old)
}

// enterRecord enters the record that an iterator is at.
func (w *waits) enterRecord(it *pebble.Iterator) {
	key := it.Key()
	if len(key) != keyLengths[keyWaiting] {
		return
	}
	q := binary.BigEndian.Uint32(key[1:])
	ws, err := readWaiting(key, it)
	if err != nil {
		w.damaged[q] = corrupt(key, err)
		return
	}
	for i := range ws {
		w.add(q, waitBucketOf(key), &ws[i], i == 0)
	}
}

func readWaiting(key []byte, it *pebble.Iterator) ([]record.Waiting, error) {
	sealed, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	value, err := record.Unseal(key, sealed)
	if err != nil {
		return nil, err
	}
	return record.DecodeWaiting(value)
}

// merge puts what was there at the open before what came since.
func (w *waits) merge(old *waits) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.loading
	w.loading, w.failed = nil, old.failed
	for q := range old.keyed {
		w.keyed[q] = true // if it was dropped, there are none
	}
	for q, err := range old.damaged {
		if !l.dropped[q] {
			w.damaged[q] = err
		}
	}
	for q, bs := range old.queues {
		if l.dropped[q] {
			continue
		}
		due, some := l.passed[q]
		for _, b := range bs {
			if some && b.over(due) {
				b.pieces = nil // the next one that passes it drops it
			}
			w.prepend(q, b)
		}
	}
}

func (w *waits) prepend(q uint32, old *bucketOfWaits) {
	w.bytes += old.memory()
	for _, b := range w.queues[q] {
		if b.waitBucket == old.waitBucket {
			b.n += old.n
			b.pieces = append(old.pieces, b.pieces...)
			return
		}
	}
	w.bytes += waitsBytes
	w.queues[q] = append(w.queues[q], old)
}

// close ends what openWaits has begun.
func (w *waits) close() {
	if w.stop != nil {
		close(w.stop)
		<-w.loaded
	}
}
