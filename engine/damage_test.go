package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// damageLastMessage changes the last byte of every block of messages of a
// closed store: of its last message.
func damageLastMessage(t *testing.T, disk *storetest.Disk) {
	t.Helper()
	merger := *pebble.DefaultMerger
	merger.Name = "lockkeeper.acks.1"
	db, err := pebble.Open("/data/data", &pebble.Options{FS: disk, Merger: &merger, FormatMajorVersion: pebble.FormatTableFormatV6})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte("b"), UpperBound: []byte("c")})
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string][]byte)
	for ok := it.First(); ok; ok = it.Next() {
		blocks[string(it.Key())] = append([]byte(nil), it.Value()...)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	for key, v := range blocks {
		v[len(v)-1] ^= 1
		if err := db.Set([]byte(key), v, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil || len(blocks) == 0 {
		t.Fatalf("%d blocks: %v", len(blocks), err)
	}
}

// TestDamagedMessageHidesNoOthers delivers the others of its block, and the
// damaged one stays in the queue.
func TestDamagedMessageHidesNoOthers(t *testing.T) {
	disk := storetest.NewDisk()
	c, conn := startOn(t, disk)
	if _, err := conn.Declare(t.Context(), &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}, false); err != nil {
		t.Fatal(err)
	}
	var ps []queuedriver.Publishing
	for i := range 3 {
		ps = append(ps, queuedriver.Publishing{
			Route:   queuedriver.Route{Key: "q"},
			Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: []byte("body")},
		})
	}
	if _, err := conn.Publish(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	damageLastMessage(t, disk)

	c, conn = startOn(t, disk)
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	ds, err := conn.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "q", Consumer: "c", Max: 3, Wait: time.Minute})
	if err != nil || len(ds) != 2 || ds[0].Message.ID != "0" || ds[1].Message.ID != "1" {
		t.Fatalf("received %v: %v", ds, err)
	}
	stats, err := conn.Stats(t.Context(), &queuedriver.StatsRequest{Queue: "q"})
	if err != nil || stats[0].InFlight != 3 {
		t.Fatalf("%+v: %v", stats, err)
	}
}
