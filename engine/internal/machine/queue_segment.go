package machine

import (
	"slices"
	"sort"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// dropBodyBytes is from which size on the body of a wholly acked block is
// deleted at once. Smaller ones wait for their whole segment, which one range
// deletion drops: many small deletions make the head of a queue slow to find.
const dropBodyBytes = 4 << 10

// segment is what is known of record.SegmentSize consecutive messages: which
// are acked, and the blocks that hold those that have been loaded.
type segment struct {
	acked  record.AckSet
	n      int // acked
	blocks []block
}

// block is a stored block, without its bodies.
type block struct {
	first     uint64
	count     uint32
	left      uint32 // not acked
	bytes     uint32
	published int64
}

func segmentOf(seq uint64) uint64 { return seq / record.SegmentSize }

// set marks seq as acked and reports whether it was not before.
func (s *segment) set(seq uint64) bool {
	if s.acked.Has(seq) {
		return false
	}
	s.acked.Add(seq, 1)
	s.n++
	return true
}

// merge adds the acks of a stored set.
func (s *segment) merge(acked *record.AckSet) {
	s.acked.Union(acked)
	s.n = s.acked.Count()
}

// block returns the loaded block that holds seq, or nil.
func (s *segment) block(seq uint64) *block {
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].first > seq })
	if i == 0 {
		return nil
	}
	if b := &s.blocks[i-1]; seq < b.first+uint64(b.count) {
		return b
	}
	return nil
}

// segment returns the segment of seq and makes it if need be.
func (q *queue) segment(seq uint64) *segment {
	n := segmentOf(seq)
	s := q.segments[n]
	if s == nil {
		s = &segment{}
		if first := n * record.SegmentSize; first == uint64(levelOf(first))<<levelShift {
			s.set(first) // is no message: numbers begin at 1
		}
		q.segments[n] = s
	}
	return s
}

func (q *queue) isAcked(seq uint64) bool {
	s := q.segments[segmentOf(seq)]
	if s == nil {
		// Only a wholly acked segment is forgotten before the cursor.
		return seq < q.level(seq).cursor
	}
	return s.acked.Has(seq)
}

// blockOf returns where message seq lies; 0 if its block is not loaded.
func (q *queue) blockOf(seq uint64) uint64 {
	if s := q.segments[segmentOf(seq)]; s != nil {
		if b := s.block(seq); b != nil {
			return b.first
		}
	}
	return 0
}

// addBlock makes a block known, in order, and puts those of its messages that
// are not acked at the end of the ready ones.
func (q *queue) addBlock(ib *record.IndexBlock) {
	s, l := q.segment(ib.FirstSeq), q.level(ib.FirstSeq)
	b := block{first: ib.FirstSeq, count: uint32(len(ib.Entries)), bytes: ib.Bytes, published: ib.Published}
	for i, e := range ib.Entries {
		seq := ib.FirstSeq + uint64(i)
		if s.acked.Has(seq) {
			continue
		}
		b.left++
		x := entry{seq: seq, hash: e.KeyHash, size: e.Size, mortal: e.Expires != 0}
		l.ready.push(x)
		if x.mortal {
			q.noteExpiry(e.Expires, x)
		}
		q.noteHead(x)
	}
	s.blocks = append(s.blocks, b)
	l.cursor = ib.FirstSeq + uint64(len(ib.Entries))
}

// markAcked marks a message as gone for good; what it frees is written by
// flushAcks.
func (q *queue) markAcked(seq uint64) {
	s := q.segment(seq)
	if !s.set(seq) {
		panic("machine: message acked twice")
	}
	q.acked = append(q.acked, seq)
	if b := s.block(seq); b != nil {
		b.left--
		if b.left == 0 && b.bytes >= dropBodyBytes {
			q.deadBodies = append(q.deadBodies, b.first)
		}
	}
}

// flushAcks writes the acks of the round, and deletes what they free.
func (q *queue) flushAcks(ch Changes) {
	if len(q.acked) == 0 {
		return
	}
	slices.Sort(q.acked)
	runs := q.runs[:0]
	for i, seq := range q.acked {
		if i > 0 && q.acked[i-1]+1 == seq && seq%record.SegmentSize != 0 {
			runs[len(runs)-1].Len++
		} else {
			runs = append(runs, record.Run{From: seq, Len: 1})
		}
	}
	ch.Ack(q.id, runs)
	for _, first := range q.deadBodies {
		ch.DropBody(q.id, first)
	}
	for i := range runs {
		q.dropIfFull(ch, segmentOf(runs[i].From))
	}
	q.acked, q.deadBodies, q.runs = q.acked[:0], q.deadBodies[:0], runs[:0]
}

// dropIfFull deletes a segment all of whose messages are acked. The tail's
// cannot be: full means that every number of it was used.
func (q *queue) dropIfFull(ch Changes, n uint64) {
	s := q.segments[n]
	if s == nil || s.n < record.SegmentSize {
		return
	}
	ch.DropSegments(q.id, n, n+1)
	delete(q.segments, n)
	if l := q.level(n * record.SegmentSize); segmentOf(*l.head) == n {
		q.advanceHead(l)
	}
}

// advanceHead moves the hint for the first message of a level to the first
// segment that is left of it.
func (q *queue) advanceHead(l *level) {
	head := segmentOf(l.cursor)
	for n := range q.segments {
		if n >= segmentOf(l.base) {
			head = min(head, n)
		}
	}
	*l.head = max(*l.head, head*record.SegmentSize)
}
