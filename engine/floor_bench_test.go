package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// floorRecord is what a commit of the bare log writes.
const floorRecord = 128 // bytes

// bareLog is the least that a confirm synced to the disk can cost: one
// goroutine writes what has queued up, syncs, and lets the callers go.
type bareLog struct {
	mu      sync.Mutex
	queued  []chan struct{}
	records []byte
	wake    chan struct{}
}

func (l *bareLog) run(f *os.File) error {
	var callers []chan struct{}
	var records []byte
	for range l.wake {
		l.mu.Lock()
		callers, l.queued = l.queued, callers[:0]
		records, l.records = l.records, records[:0]
		l.mu.Unlock()
		if _, err := f.Write(records); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		for _, c := range callers {
			c <- struct{}{}
		}
	}
	return nil
}

func (l *bareLog) commit(record []byte, done chan struct{}) {
	l.mu.Lock()
	l.records = append(l.records, record...)
	l.queued = append(l.queued, done)
	first := len(l.queued) == 1
	l.mu.Unlock()
	if first {
		l.wake <- struct{}{}
	}
	<-done
}

// BenchmarkFloor is what the other benchmarks are compared with: a log that
// commits groups of records with fdatasync, into space that was written before.
func BenchmarkFloor(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			f := floorFile(b)
			l := &bareLog{wake: make(chan struct{}, 1)}
			ended := make(chan error, 1)
			go func() { ended <- l.run(f) }()
			b.ResetTimer()
			var callers sync.WaitGroup
			for g := range goroutines {
				callers.Go(func() {
					record, done := make([]byte, floorRecord), make(chan struct{}, 1)
					for i := g; i < b.N; i += goroutines {
						l.commit(record, done)
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			close(l.wake)
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// floorFile makes a file as a log that is used again: its blocks are there.
func floorFile(b *testing.B) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := f.Write(zeros); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		b.Fatal(err)
	}
	return f
}
