package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestCommitOnAFullDisk: what makes the store grow is refused whole, what only
// ends things goes on, and what was done before is known.
func TestCommitOnAFullDisk(t *testing.T) {
	disk := storetest.NewDisk()
	s, err := store.Open(store.Options{Dir: "/data", FS: disk, ReserveBytes: 64 << 20, RoomEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	core, err := startCore(s, params{minTTL: time.Second}, false, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := core.close(); err != nil {
			t.Error(err)
		}
	}()
	locks := lockConnOn(core)
	conn := &queueConn{locks.conn}
	load := &commitLoad{t: t, queue: conn, locks: locks}
	load.run(3)
	held := acquire(t, locks, "held", "h")
	post := queuedriver.Publishing{Route: queuedriver.Route{Key: "in"}, Message: &queuedriver.Message{ID: "new"}}
	if _, err := conn.Publish(t.Context(), []queuedriver.Publishing{post, post}); err != nil {
		t.Fatal(err)
	}
	ds, err := conn.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "in", Consumer: "c", Max: 2})
	if err != nil || len(ds) != 2 {
		t.Fatal(ds, err)
	}
	ack := []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Ack}}

	disk.SetQuota(disk.Used("/") + 32<<20) // less than the reserve is left
	for what, txn := range map[string]*queuedriver.Txn{
		"a publish":     {Settle: ack, Publish: []queuedriver.Publishing{post}},
		"a result":      {Settle: ack, ID: "id"},
		"a dead letter": {Settle: append(ack, queuedriver.Settlement{Ref: ds[1].Ref, Verb: queuedriver.Reject})},
	} {
		if _, err := conn.Commit(t.Context(), txn); !errors.Is(err, lease.ErrNoSpace) {
			t.Errorf("a commit with %s: %v", what, err)
		}
	}
	r, err := conn.Commit(t.Context(), load.begun[2])
	if err != nil || !r.Repeated {
		t.Errorf("a repeat: %+v, %v", r, err)
	}
	ref := queuedriver.LockRef{Name: "held", Holder: "h", Token: held.Token}
	if _, err := conn.Commit(t.Context(), &queuedriver.Txn{Settle: ack, Release: []queuedriver.LockRef{ref}}); err != nil {
		t.Errorf("a commit that ends a delivery and a lock: %v", err)
	}
	if _, err := conn.Commit(t.Context(), &queuedriver.Txn{Require: []queuedriver.LockRef{ref}}); !errors.Is(err, lease.ErrNotHeld) {
		t.Errorf("the lock after its release: %v", err)
	}
	disk.SetQuota(1 << 40)
	if _, err := conn.Commit(t.Context(), &queuedriver.Txn{ID: "id", Publish: []queuedriver.Publishing{post}}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
