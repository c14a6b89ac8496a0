package record

import (
	"iter"
	"math/bits"
)

// AckSet says which messages of one segment are acked. The zero value is
// empty.
type AckSet struct{ bits [SegmentSize / 64]uint64 }

// Has reports whether seq, of this set's segment, is in the set.
func (a *AckSet) Has(seq uint64) bool {
	i := seq % SegmentSize
	return a.bits[i/64]&(1<<(i%64)) != 0
}

// Add adds the n numbers from, from+1, ... which must be of one segment.
func (a *AckSet) Add(from uint64, n int) {
	i := int(from % SegmentSize)
	if n < 0 || i+n > SegmentSize {
		panic("record: acks across a segment's border")
	}
	for n > 0 {
		k := min(64-i%64, n)
		a.bits[i/64] |= (^uint64(0) >> (64 - k)) << (i % 64)
		i, n = i+k, n-k
	}
}

// Union adds what is in o.
func (a *AckSet) Union(o *AckSet) {
	for i, w := range &o.bits {
		a.bits[i] |= w
	}
}

// Count is how many messages are acked.
func (a *AckSet) Count() int {
	n := 0
	for _, w := range &a.bits {
		n += bits.OnesCount64(w)
	}
	return n
}

// Full reports that the whole segment is acked.
func (a *AckSet) Full() bool { return a.Count() == SegmentSize }

// Words returns the set as a bitmap: bit i%64 of word i/64 is message i of
// the segment.
func (a *AckSet) Words() *[SegmentSize / 64]uint64 { return &a.bits }

// Runs returns the runs of the set in order, as offsets into the segment.
func (a *AckSet) Runs() iter.Seq2[int, int] {
	return func(yield func(offset, n int) bool) {
		for i := a.next(0, true); i < SegmentSize; {
			end := a.next(i, false)
			if !yield(i, end-i) {
				return
			}
			i = a.next(end, true)
		}
	}
}

// next returns the first index from i on that is in the set, or is not.
func (a *AckSet) next(i int, in bool) int {
	for i < SegmentSize {
		w := a.bits[i/64]
		if !in {
			w = ^w
		}
		if w >>= i % 64; w != 0 {
			return i + bits.TrailingZeros64(w)
		}
		i = (i/64 + 1) * 64
	}
	return SegmentSize
}
