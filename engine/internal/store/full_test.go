package store

import (
	"errors"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
)

func bigBatch(seq uint64) func(*Batch) {
	return func(b *Batch) {
		body := make([]byte, 8<<10)
		for i := range body {
			body[i] = byte(uint64(i) * (seq*2654435761 + 12345) >> 7)
		}
		b.Append(1, seq, 0, record.SplitBlocks(seq, 0, []record.Message{message(string(body))}))
	}
}

// TestRoom fills the disk to the reserve, acks within it, makes room and goes on.
func TestRoom(t *testing.T) {
	d := storetest.NewDisk()
	o := diskOptions(d)
	o.ReserveBytes = 1 << 20
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Room(); err != nil {
		t.Fatalf("Room on a disk that cannot say: %v", err)
	}
	d.SetQuota(3 << 20)
	seq := uint64(1)
	for ; s.Room() == nil; seq++ {
		if seq > 1000 {
			t.Fatal("the disk is never full")
		}
		commit(t, s, bigBatch(seq))
	}
	if err := s.Room(); !errors.Is(err, lease.ErrNoSpace) {
		t.Fatalf("Room: %v", err)
	}
	commit(t, s, func(b *Batch) { b.Ack(1, []record.Run{{From: 1, Len: uint32(seq - 1)}}) })
	d.SetQuota(30 << 20)
	if err := s.Room(); err != nil {
		t.Fatalf("Room when there is: %v", err)
	}
	commit(t, s, bigBatch(seq))
	closeStore(t, s)
	s = openDisk(t, d)
	for n := uint64(1); n <= seq; n++ {
		if _, err := s.Message(1, n, n); err != nil {
			t.Error(err)
		}
	}
	closeStore(t, s)
}

// TestFullDisk lets Pebble run into the end of the disk, at many sizes of it:
// in its log, its tables, its manifest. The store may fail, must close, and
// has everything that was confirmed once there is room.
func TestFullDisk(t *testing.T) {
	for quota := int64(200 << 10); quota < 700<<10; quota += 70 << 10 {
		d := storetest.NewDisk()
		o := diskOptions(d)
		o.StallLimit = 200 * time.Millisecond
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		d.SetQuota(quota)
		confirmed := uint64(0)
		for seq := uint64(1); seq < 200 && s.Stalled() == nil; seq++ {
			if err := tryCommit(s, bigBatch(seq)); err != nil {
				if !errors.Is(err, ErrFailed) {
					t.Errorf("quota %d: %v", quota, err)
				}
				break
			}
			confirmed = seq
		}
		if confirmed == 199 {
			t.Fatalf("quota %d is not too small", quota)
		}
		if err := s.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("Close: %v", err)
		}
		d.SetQuota(0)
		s = openDisk(t, d)
		for n := uint64(1); n <= confirmed; n++ {
			if _, err := s.Message(1, n, n); err != nil {
				t.Fatalf("quota %d: %v", quota, err)
			}
		}
		commit(t, s, bigBatch(1000))
		closeStore(t, s)
	}
}
