package store

import (
	"fmt"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// BenchmarkCommit stores batches of messages of 256 bytes in a directory, four
// batches in flight, and reads some back.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, err := Open(Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer closeStore(b, s)
			msgs := make([]record.Message, size)
			for i := range msgs {
				msgs[i] = message(string(make([]byte, 256)))
			}
			var pending []*Pending
			wait := func(left int) {
				for ; len(pending) > left; pending = pending[1:] {
					if err := pending[0].Wait(); err != nil {
						b.Fatal(err)
					}
				}
			}
			seq := uint64(1)
			b.SetBytes(int64(256 * size))
			b.ResetTimer()
			for range b.N {
				batch := s.NewBatch()
				batch.Append(1, seq, 0, record.SplitBlocks(seq, 0, msgs))
				batch.PutCounters(1, &record.Counters{NextSeq: seq})
				seq += uint64(size)
				p, err := s.Apply(batch)
				if err != nil {
					b.Fatal(err)
				}
				pending = append(pending, p)
				wait(3)
			}
			wait(0)
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkMessage reads single messages out of blocks.
func BenchmarkMessage(b *testing.B) {
	s, err := Open(Options{Memory: true})
	if err != nil {
		b.Fatal(err)
	}
	defer closeStore(b, s)
	msgs := make([]record.Message, 100)
	for i := range msgs {
		msgs[i] = message(string(make([]byte, 256)))
	}
	commit(b, s, func(batch *Batch) { batch.Append(1, 1, 0, record.SplitBlocks(1, 0, msgs)) })
	for i := range b.N {
		if _, err := s.Message(1, 1, 1+uint64(i%100)); err != nil {
			b.Fatal(err)
		}
	}
}
