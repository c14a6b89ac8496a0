package store

import (
	"fmt"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// A stream's messages are found by their offsets and by time, also where what
// was before them is dropped.
func TestStreamRangeAndTime(t *testing.T) {
	s, err := Open(Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := s.NewBatch()
	// Blocks of 1 to 900 messages, stamped 10, 20, ...; offsets from 1 on.
	var stamp []int64 // of offset i+1
	next := uint64(1)
	for n := range 60 {
		ms := make([]record.Message, 1+(n*271)%900)
		for i := range ms {
			ms[i] = record.Message{Published: int64(n), Message: &queuedriver.Message{ID: fmt.Sprint(next + uint64(i))}}
			stamp = append(stamp, int64(10*(n+1)))
		}
		at := int64(10 * (n + 1))
		b.Append(1, next, at, record.SplitBlocks(next, at, ms))
		next += uint64(len(ms))
	}
	first := uint64(2 * record.SegmentSize)
	b.DropSegments(1, 0, 2)
	p, err := s.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, from := range []uint64{1, first - 1, first, first + 1, first + 777, 3 * record.SegmentSize, next - 1, next} {
		want := max(from, first)
		err := s.Range(1, from, next, func(n uint64, m *record.Message) bool {
			if n != want || m.ID != fmt.Sprint(n) {
				t.Fatalf("from %d: %d holds %q, want %d", from, n, m.ID, want)
			}
			want++
			return want < from+5000
		})
		if err != nil || want != max(from, first) && want < min(next, from+5000) {
			t.Errorf("from %d it ended at %d: %v", from, want, err)
		}
	}
	for wall := int64(0); wall <= 610; wall += 5 {
		want := next
		for n := first; n < next; n++ {
			if stamp[n-1] >= wall {
				want = n
				break
			}
		}
		got, err := s.SeekTime(1, 1, next, wall)
		if err != nil || got > want || got < want && got >= first {
			t.Errorf("time %d is at %d, want %d: %v", wall, got, want, err)
		}
	}
}
