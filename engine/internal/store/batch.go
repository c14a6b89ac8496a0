package store

import (
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Batch collects the changes of a round. It implements machine.Changes, keeps
// nothing that it is passed, and is for one goroutine.
type Batch struct {
	store *Store
	b     *pebble.Batch
	meta  bool // the store's record changed

	hashed *hashKeys // nil: none
	waits  *waitOps  // nil: none

	key, end, value []byte // scratch
}

// Empty reports that nothing is to be stored.
func (b *Batch) Empty() bool { return b.b.Empty() && !b.meta && b.held() == 0 && b.heldWaits() == 0 }

// Bytes is about how large the batch is by now.
func (b *Batch) Bytes() int { return b.b.Len() + b.held()*hashKeyBytes + b.heldWaits()*waitOpBytes }

// Discard gives up a batch that is not to be applied.
func (b *Batch) Discard() {
	if b.b != nil {
		must(b.b.Close())
		b.b = nil
	}
	b.freeHeld()
	b.freeWaits()
}

// The methods of a Pebble batch return errors only if it was applied or is of
// the wrong kind: a bug.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// put seals b.value and stores it under b.key.
func (b *Batch) put() {
	b.value = record.Seal(b.key, b.value)
	must(b.b.Set(b.key, b.value, nil))
}

func (b *Batch) delete() { must(b.b.Delete(b.key, nil)) }

func (b *Batch) deleteRange() { must(b.b.DeleteRange(b.key, b.end, nil)) }

// ReserveTokens implements machine.Changes.
func (b *Batch) ReserveTokens(upTo uint64) {
	b.store.metaMu.Lock()
	defer b.store.metaMu.Unlock()
	b.store.meta.TokenReserve = max(b.store.meta.TokenReserve, upTo)
	b.meta = true
}

// PutLock implements machine.Changes.
func (b *Batch) PutLock(name string, l *record.Lock) {
	b.key = appendNameKey(b.key[:0], keyLock, name)
	b.value = record.AppendLock(b.value[:0], l)
	b.put()
}

// DeleteLock implements machine.Changes.
func (b *Batch) DeleteLock(name string) {
	b.key = appendNameKey(b.key[:0], keyLock, name)
	b.delete()
}

// PutExchange implements machine.Changes.
func (b *Batch) PutExchange(e *queuedriver.Exchange) {
	b.key = appendTopologyKey(b.key[:0], topologyExchange, e.Name)
	b.value = record.AppendExchange(b.value[:0], e)
	b.put()
}

// DeleteExchange implements machine.Changes.
func (b *Batch) DeleteExchange(name string) {
	b.key = appendTopologyKey(b.key[:0], topologyExchange, name)
	b.delete()
}

// PutQueue implements machine.Changes. A number that was given to a queue is
// never given again, so that what is left of a deleted one cannot come back.
func (b *Batch) PutQueue(q *record.Queue) {
	b.key = appendTopologyKey(b.key[:0], topologyQueue, q.Spec.Name)
	b.value = record.AppendQueue(b.value[:0], q)
	b.put()
	b.store.metaMu.Lock()
	defer b.store.metaMu.Unlock()
	if q.ID >= b.store.meta.NextQueueID {
		b.store.meta.NextQueueID = q.ID + 1
		b.meta = true
	}
}

// DeleteQueue implements machine.Changes.
func (b *Batch) DeleteQueue(q *record.Queue) {
	b.key = appendTopologyKey(b.key[:0], topologyQueue, q.Spec.Name)
	b.delete()
	b.noteDrop(q.ID, math.MaxInt64)
	b.dropWaits(q.ID)
	for _, kind := range keysOfQueue {
		b.key = appendQueueKey(b.key[:0], kind, q.ID)
		b.end = appendQueueKey(b.end[:0], kind, q.ID+1)
		b.deleteRange()
	}
}

func (b *Batch) bindingKey(x *queuedriver.Binding) {
	b.value = record.AppendBinding(b.value[:0], x)
	hash := hash128(b.value)
	b.key = append(appendTopologyKey(b.key[:0], topologyBinding, ""), hash[:]...)
}

// PutBinding implements machine.Changes.
func (b *Batch) PutBinding(x *queuedriver.Binding) {
	b.bindingKey(x)
	b.put()
}

// DeleteBinding implements machine.Changes.
func (b *Batch) DeleteBinding(x *queuedriver.Binding) {
	b.bindingKey(x)
	b.delete()
}

// Append implements machine.Changes. The blocks are numbered on from first
// and stamped with now, whatever their index says.
func (b *Batch) Append(q uint32, first uint64, now int64, blocks []record.NewBlock) {
	for i := range blocks {
		x := blocks[i].Index
		b.key = appendSeqKey(b.key[:0], keyBlock, q, first)
		x.FirstSeq, x.Published, x.Bytes = first, now, uint32(b.putBlock(blocks[i].Messages))
		b.key[0] = keyIndex
		b.value = record.AppendIndexBlock(b.value[:0], &x)
		b.put()
		first += uint64(len(blocks[i].Messages))
	}
}

// putBlock stores a block under b.key and returns its size. One message, which
// can be large, is encoded into the memory of the batch; to know the size of
// many before costs more than to copy them.
func (b *Batch) putBlock(msgs []record.Message) int {
	if len(msgs) > 1 {
		b.value = record.AppendBlock(b.value[:0], b.key, msgs)
		must(b.b.Set(b.key, b.value, nil))
		return len(b.value)
	}
	size := record.BlockSize(msgs)
	op := b.b.SetDeferred(len(b.key), size)
	copy(op.Key, b.key)
	if block := record.AppendBlock(op.Value[:0:size], b.key, msgs); len(block) != size {
		panic("store: a block is not as long as record.BlockSize says")
	}
	must(op.Finish())
	return size
}

// Ack implements machine.Changes. Runs may cross segments; one merge is
// written for each segment in a row.
func (b *Batch) Ack(q uint32, runs []record.Run) {
	var set record.AckSet
	segment, begun := uint64(0), false
	flush := func() {
		if begun {
			b.key = appendSeqKey(b.key[:0], keyAcks, q, segment)
			b.value = record.Seal(b.key, record.AppendAckSet(b.value[:0], &set))
			must(b.b.Merge(b.key, b.value, nil))
		}
	}
	for _, r := range runs {
		for from, left := r.From, int(r.Len); left > 0; {
			if s := from / record.SegmentSize; !begun || s != segment {
				flush()
				segment, begun, set = s, true, record.AckSet{}
			}
			n := min(left, int(record.SegmentSize-from%record.SegmentSize))
			set.Add(from, n)
			from, left = from+uint64(n), left-n
		}
	}
	flush()
}

// DropBody implements machine.Changes.
func (b *Batch) DropBody(q uint32, blockFirst uint64) {
	b.key = appendSeqKey(b.key[:0], keyBlock, q, blockFirst)
	b.delete()
}

// DropSegments implements machine.Changes.
func (b *Batch) DropSegments(q uint32, from, to uint64) {
	b.key = appendSeqKey(b.key[:0], keyAcks, q, from)
	b.end = appendSeqKey(b.end[:0], keyAcks, q, to)
	b.deleteRange()
	for _, kind := range [...]byte{keyBlock, keyIndex} {
		b.key = appendSeqKey(b.key[:0], kind, q, from*record.SegmentSize)
		b.end = appendSeqKey(b.end[:0], kind, q, to*record.SegmentSize)
		b.deleteRange()
	}
}

// PutAttempt implements machine.Changes.
func (b *Batch) PutAttempt(q uint32, seq uint64, a record.Attempt) {
	b.key = appendSeqKey(b.key[:0], keyAttempt, q, seq)
	b.value = record.AppendAttempt(b.value[:0], &a)
	b.put()
}

// DeleteAttempt implements machine.Changes.
func (b *Batch) DeleteAttempt(q uint32, seq uint64) {
	b.key = appendSeqKey(b.key[:0], keyAttempt, q, seq)
	b.delete()
}

// PutFetch implements machine.Changes.
func (b *Batch) PutFetch(q uint32, fetch uint64, f *record.Fetch) {
	b.key = appendFetchKey(b.key[:0], q, fetch)
	b.value = record.AppendFetch(b.value[:0], f)
	b.put()
}

// DeleteFetch implements machine.Changes.
func (b *Batch) DeleteFetch(q uint32, fetch uint64) {
	b.key = appendFetchKey(b.key[:0], q, fetch)
	b.delete()
}

// PutDelayed implements machine.Changes.
func (b *Batch) PutDelayed(q uint32, d *record.Delayed) {
	b.key = appendDelayedKey(b.key[:0], q, d.Due, d.Seq)
	b.value = record.AppendDelayed(b.value[:0], d)
	b.put()
	if d.ID == "" {
		return
	}
	w := record.Waiting{ID: hash128([]byte(d.ID)), DelayedAt: record.DelayedAt{Due: d.Due, Seq: d.Seq}}
	if !b.store.waits.full() {
		b.waitOp(waitOp{op: noted, q: q, in: bucketOf(d.Published, d.Due), at: w})
		return
	}
	b.store.waits.key(q)
	b.waitOp(waitOp{op: keyed, q: q})
	b.key = appendCancelKey(b.key[:0], q, w.ID, w.DelayedAt)
	b.hold(putKey)
}

// DeleteDelayed implements machine.Changes.
func (b *Batch) DeleteDelayed(q uint32, at record.DelayedAt, id string) {
	b.key = appendDelayedKey(b.key[:0], q, at.Due, at.Seq)
	b.delete()
	if id != "" && b.store.waits.hasKeys(q) {
		b.key = appendCancelKey(b.key[:0], q, hash128([]byte(id)), at)
		b.hold(deleteKey)
	}
}

// PassDelayed implements machine.Changes.
func (b *Batch) PassDelayed(q uint32, due int64) { b.waitOp(waitOp{op: passed, q: q, due: due}) }

// DropDelayed implements machine.Changes.
func (b *Batch) DropDelayed(q uint32) {
	b.writeHeld()
	b.dropWaits(q)
	for _, kind := range [...]byte{keyDelayed, keyCancel, keyWaiting} {
		b.key = appendQueueKey(b.key[:0], kind, q)
		b.end = appendQueueKey(b.end[:0], kind, q+1)
		b.deleteRange()
	}
}

// PutLevels implements machine.Changes.
func (b *Batch) PutLevels(q uint32, lower []record.Level) {
	b.key = appendQueueKey(b.key[:0], keyLevels, q)
	b.value = record.AppendLevels(b.value[:0], lower)
	b.put()
}

// PutOffset implements machine.Changes.
func (b *Batch) PutOffset(q uint32, consumer string, offset uint64) {
	b.key = appendOffsetKey(b.key[:0], q, consumer)
	b.value = record.AppendNumber(b.value[:0], offset)
	b.put()
}

// DeleteOffset implements machine.Changes.
func (b *Batch) DeleteOffset(q uint32, consumer string) {
	b.key = appendOffsetKey(b.key[:0], q, consumer)
	b.delete()
}

// PutCounters implements machine.Changes.
func (b *Batch) PutCounters(q uint32, c *record.Counters) {
	b.key = appendQueueKey(b.key[:0], keyCounters, q)
	b.value = record.AppendCounters(b.value[:0], c)
	b.put()
}
