package store

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
)

// TestResults: what is put is found in its bucket, and only there, also after
// an open; a range of buckets is dropped whole.
func TestResults(t *testing.T) {
	disk := storetest.NewDisk()
	s := openDisk(t, disk)
	want := &record.Result{Until: 5, Settled: []bool{true}, Receipts: []record.Receipt{{Queues: 2}}, Result: []byte("r")}
	buckets := [][2]int64{{0, -3}, {0, 1}, {0, 2}, {3, 1}, {255, 1<<63 - 1}}
	commit(t, s, func(b *Batch) {
		for _, at := range buckets {
			for i := range 100 {
				b.PutResult(byte(at[0]), at[1], fmt.Sprint("id", i), want)
			}
		}
	})
	closeStore(t, s)
	s = openDisk(t, disk)
	defer func() { closeStore(t, s) }()
	checkBuckets := func(want [][2]int64) {
		t.Helper()
		var got [][2]int64
		err := s.ResultBuckets(func(class byte, bucket int64) error {
			got = append(got, [2]int64{int64(class), bucket})
			return nil
		})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("buckets %v, want %v: %v", got, want, err)
		}
	}
	checkBuckets(buckets)
	if got, err := s.Result(0, 1, "id7"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, at := range [][2]int64{{0, 0}, {1, 1}, {3, 2}} {
		if got, err := s.Result(byte(at[0]), at[1], "id7"); got != nil || err != nil {
			t.Errorf("in bucket %v: %+v, %v", at, got, err)
		}
	}
	commit(t, s, func(b *Batch) { b.DropResults(0, 2) })
	checkBuckets(buckets[2:])
	if got, err := s.Result(0, 1, "id7"); got != nil || err != nil {
		t.Errorf("after the drop: %+v, %v", got, err)
	}
}
