package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// What is dropped must not stand in the way of what is behind it: a queue
// whose first message stays while all others come and go keeps its head in the
// first segment, and each segment behind it is a range that was deleted. To
// get from the head over all of them to the tail takes as many steps after
// many segments as after few.
func TestSeekOverDroppedSegments(t *testing.T) {
	const few, many = 50, 400
	s, err := Open(Options{Memory: true, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	msgs := make([]record.Message, 128)
	for i := range msgs {
		msgs[i] = message("")
	}
	steps := func() int {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: appendSeqKey(nil, keyIndex, 1, 0), UpperBound: appendSeqEnd(nil, keyIndex, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		blocks := 0
		for ok := it.First(); ok; ok = it.Next() {
			blocks++
		}
		if want := 2 * record.SegmentSize / len(msgs); blocks != want {
			t.Errorf("%d blocks are left, want %d", blocks, want)
		}
		return int(it.Stats().InternalStats.PointCount)
	}
	most := 0 // of the first ones
	for segment := range uint64(many) {
		for at := segment * record.SegmentSize; at < (segment+1)*record.SegmentSize; at += uint64(len(msgs)) {
			commit(t, s, func(b *Batch) {
				b.Append(1, at, 0, record.SplitBlocks(at, 0, msgs))
				b.Ack(1, []record.Run{{From: at, Len: uint32(len(msgs))}})
				b.PutAttempt(1, 1, record.Attempt{Count: uint32(at)})
			})
		}
		if segment < 2 {
			continue
		}
		commit(t, s, func(b *Batch) { b.DropSegments(1, segment-1, segment) })
		switch n := steps(); {
		case segment < few:
			most = max(most, n)
		case n > 2*most:
			t.Fatalf("after %d segments it takes %d steps, after %d at most %d", segment, n, few, most)
		}
	}
	t.Logf("at most %d steps over %d segments", most, few)
}
