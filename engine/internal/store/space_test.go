package store

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// The space of a drained queue is given back though nothing more is written:
// what was dropped does not wait for the memtable to be full.
func TestSpaceComesBack(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir, FreeAfter: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	noise, body := rand.NewChaCha8([32]byte{}), make([]byte, 1<<10)
	msgs := make([]record.Message, 256)
	for i := range msgs {
		_, _ = noise.Read(body) // never fails
		msgs[i] = message(string(body))
	}
	const segments = 10 // of 4 MiB
	for at := uint64(0); at < segments*record.SegmentSize; at += uint64(len(msgs)) {
		commit(t, s, func(b *Batch) { b.Append(1, at, 0, record.SplitBlocks(at, 0, msgs)) })
	}
	// As compactions leave a long backlog: on the last level.
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	full := tablesIn(t, dir)
	if full < 8<<20 {
		t.Fatalf("tables have %d bytes", full)
	}
	commit(t, s, func(b *Batch) { b.DropSegments(1, 0, segments) })
	end := time.After(30 * time.Second)
	look := time.NewTicker(10 * time.Millisecond) // the store tells nobody when a file is gone
	defer look.Stop()
	for {
		left := tablesIn(t, dir)
		if left < full/10 { // a table that holds something else as well may stay
			return
		}
		select {
		case <-look.C:
		case <-end:
			t.Fatalf("of %d bytes %d are still there", full, left)
		}
	}
}

// tablesIn is the size of all tables under dir.
func tablesIn(t *testing.T, dir string) (size int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".sst") {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}
