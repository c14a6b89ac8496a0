package record

import (
	"math/rand/v2"
	"slices"
	"testing"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestSplitBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(1), 0))
	for range 50 {
		first := uint64(r.IntN(3 * SegmentSize))
		msgs := make([]Message, 1+r.IntN(300))
		for i := range msgs {
			size := r.IntN(600)
			if r.IntN(40) == 0 {
				size = MaxBlockBytes + r.IntN(10)
			}
			msgs[i] = Message{Message: &queuedriver.Message{Body: make([]byte, size)}}
			if r.IntN(2) == 0 {
				msgs[i].OrderKey = "key"
			}
		}
		next, n := first, 0
		for _, b := range SplitBlocks(first, 42, msgs) {
			enc := AppendBlock(nil, nil, b.Messages)
			count := uint64(len(b.Messages))
			switch {
			case b.Index.FirstSeq != next || b.Index.Published != 42 || int(b.Index.Bytes) != len(enc), BlockSize(b.Messages) != len(enc):
				t.Fatalf("index %+v of a block at %d with %d bytes", b.Index, next, len(enc))
			case len(enc) > MaxBlockBytes && count > 1:
				t.Fatalf("a block of %d messages has %d bytes", count, len(enc))
			case next/SegmentSize != (next+count-1)/SegmentSize:
				t.Fatalf("block %d+%d crosses a border", next, count)
			}
			for i, e := range b.Index.Entries {
				m := msgs[n+i]
				if &b.Messages[i] != &msgs[n+i] || int(e.Size) != len(m.Body) || (e.KeyHash == 0) != (m.OrderKey == "") {
					t.Fatalf("entry %d is %+v", n+i, e)
				}
			}
			next += count
			n += len(b.Index.Entries)
		}
		if n != len(msgs) {
			t.Fatalf("%d of %d messages", n, len(msgs))
		}
	}
	if blocks := SplitBlocks(1, 1, nil); blocks != nil {
		t.Errorf("%d blocks of nothing", len(blocks))
	}
}

// TestAckSet compares with a plain set, and checks that one set has one
// encoding whatever the order in which it was made.
func TestAckSet(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(1), 0))
	for round := range 200 {
		var a, reversed AckSet
		var runs [][2]int
		want := map[int]bool{}
		for range r.IntN(1 + round*4) {
			from := r.IntN(SegmentSize)
			n := r.IntN(min(40, SegmentSize-from+1))
			runs = append(runs, [2]int{from, n})
			for i := range n {
				want[from+i] = true
			}
		}
		base := uint64(round) * SegmentSize
		for _, x := range runs {
			a.Add(base+uint64(x[0]), x[1])
		}
		slices.Reverse(runs)
		for _, x := range runs {
			var one AckSet
			one.Add(uint64(x[0]), x[1])
			reversed.Union(&one)
		}
		if a != reversed || a.Count() != len(want) || a.Full() != (len(want) == SegmentSize) {
			t.Fatalf("round %d: %d acks, want %d", round, a.Count(), len(want))
		}
		sum := 0
		for from, n := range a.Runs() {
			sum += n
			if !want[from] || want[from-1] || !want[from+n-1] || want[from+n] {
				t.Fatalf("run %d+%d", from, n)
			}
		}
		if sum != len(want) || len(want) > 0 && !a.Has(base+uint64(runs[0][0])) && runs[0][1] > 0 {
			t.Fatalf("runs have %d acks, want %d", sum, len(want))
		}
		enc := AppendAckSet(nil, &a)
		if got, err := DecodeAckSet(enc); err != nil || *got != a || len(enc) > ackBitmapSize {
			t.Fatalf("%d bytes: %v", len(enc), err)
		}
	}
	var full AckSet
	full.Add(0, SegmentSize)
	if enc := AppendAckSet(nil, &full); len(enc) > 5 {
		t.Errorf("a full segment takes %d bytes", len(enc))
	}
}
