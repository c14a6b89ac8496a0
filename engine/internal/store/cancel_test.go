package store

import (
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func wantDelayed(t *testing.T, s *Store, q uint32, id string, want ...record.DelayedAt) {
	t.Helper()
	at, err := s.FindDelayed(q, id)
	if err != nil || !reflect.DeepEqual(at, want) {
		t.Errorf("%q of queue %d lies at %v, want %v (%v)", id, q, at, want, err)
	}
}

// delayedOf is a delayed message with an id.
func delayedOf(due int64, seq uint64, id string) *record.Delayed {
	return &record.Delayed{Due: due, Seq: seq, Message: record.Message{Message: &queuedriver.Message{ID: id, Body: []byte("b")}}}
}

func TestFindDelayed(t *testing.T) {
	s := openDisk(t, storetest.NewDisk())
	defer closeStore(t, s)
	commit(t, s, func(b *Batch) {
		b.PutDelayed(1, delayedOf(9, 1, "a"))
		b.PutDelayed(1, delayedOf(-5, 2, "a"))
		b.PutDelayed(1, delayedOf(5, 3, "b"))
		b.PutDelayed(1, delayedOf(5, 4, ""))
		b.PutDelayed(2, delayedOf(5, 1, "a"))
	})
	wantDelayed(t, s, 1, "a", record.DelayedAt{Due: -5, Seq: 2}, record.DelayedAt{Due: 9, Seq: 1})
	wantDelayed(t, s, 1, "b", record.DelayedAt{Due: 5, Seq: 3})
	wantDelayed(t, s, 3, "a")
	commit(t, s, func(b *Batch) {
		b.DeleteDelayed(1, record.DelayedAt{Due: 9, Seq: 1}, "a")
		b.DeleteDelayed(1, record.DelayedAt{Due: 5, Seq: 4}, "")
		b.DropDelayed(2)
	})
	wantDelayed(t, s, 1, "a", record.DelayedAt{Due: -5, Seq: 2})
	wantDelayed(t, s, 2, "a")
	commit(t, s, func(b *Batch) { b.DeleteQueue(&record.Queue{ID: 1}) })
	wantDelayed(t, s, 1, "a")
	wantDelayed(t, s, 1, "b")
}

// A store from before the index gets it when it is opened, damage or not.
func TestOldDelayedAreIndexed(t *testing.T) {
	d := storetest.NewDisk()
	s := openDisk(t, d)
	commit(t, s, func(b *Batch) {
		for i := range 30_000 { // more than one batch
			b.PutDelayed(7, delayedOf(int64(i), uint64(i), "a"))
		}
		b.PutDelayed(7, delayedOf(1, 99, ""))
		b.PutDelayed(8, delayedOf(1, 2, "a"))
	})
	for _, kind := range []byte{keyCancel, keyWaiting} {
		if err := s.db.DeleteRange([]byte{kind}, []byte{kind + 1}, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Delete(waitsKey, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Set(appendDelayedKey(nil, 7, 1, 100), []byte("damaged"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openDisk(t, d)
	defer closeStore(t, s)
	if at, err := s.FindDelayed(7, "a"); err != nil || len(at) != 30_000 {
		t.Errorf("found %d: %v", len(at), err)
	}
	wantDelayed(t, s, 8, "a", record.DelayedAt{Due: 1, Seq: 2})
}
