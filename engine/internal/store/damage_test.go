package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// rewrite stores the value under key anew with its last byte changed.
func rewrite(t *testing.T, s *Store, key []byte) {
	t.Helper()
	v, closer, err := s.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), v...)
	damaged[len(damaged)-1] ^= 1
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Set(key, damaged, s.firstWrite()); err != nil {
		t.Fatal(err)
	}
}

// TestDamageHidesNoOthers reads the other messages of a block, and the other
// scheduled messages, around one that is damaged.
func TestDamageHidesNoOthers(t *testing.T) {
	s, err := Open(Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	msgs := []record.Message{message("a"), message("b"), message("c")}
	commit(t, s, func(b *Batch) {
		b.Append(1, 1, 5, record.SplitBlocks(1, 5, msgs))
		for i := range msgs {
			b.PutDelayed(1, &record.Delayed{Due: int64(5 + i), Seq: uint64(i), Message: msgs[i]})
		}
	})
	rewrite(t, s, appendSeqKey(nil, keyBlock, 1, 1)) // the end of the last message
	rewrite(t, s, appendDelayedKey(nil, 1, 5, 0))

	ms, err := s.Messages(1, 1, []uint64{1, 3, 2, 4})
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "message 3") {
		t.Errorf("the error is %v", err)
	}
	got := make([]bool, len(ms))
	for i, m := range ms {
		got[i] = m != nil
	}
	if fmt.Sprint(got) != "[true false true false]" {
		t.Errorf("can be read: %v", got)
	}
	if m, err := s.Message(1, 1, 3); m != nil || !errors.Is(err, ErrCorrupt) {
		t.Errorf("the damaged message: %v, %v", m, err)
	}

	ds, next, err := s.LoadDue(1, record.DelayedAt{}, 6, 10, 1<<20)
	if len(ds) != 1 || ds[0].Due != 6 || next != 7 || !errors.Is(err, ErrCorrupt) {
		t.Errorf("due are %v, next %d: %v", ds, next, err)
	}
}
