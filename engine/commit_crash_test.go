package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// commitLoad is a scripted load of commits: each takes a message from "in",
// puts one into each of two queues, and releases a lock.
type commitLoad struct {
	t     *testing.T
	queue *queueConn
	locks *lockConn

	mu    sync.Mutex
	begun []*queuedriver.Txn // the last may be under way
	done  int                // of begun, confirmed
}

func (l *commitLoad) run(n int) {
	ctx := context.Background()
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{
		{Name: "in", Lease: time.Hour, DeadLetter: &queuedriver.Route{Key: "dead"}}, {Name: "out"}, {Name: "log", DedupWindow: time.Hour}, {Name: "dead"},
	}}
	if _, err := l.queue.Declare(ctx, top, false); err != nil {
		l.t.Fatal(err)
	}
	for i := range n {
		_, err := l.queue.Publish(ctx, []queuedriver.Publishing{commitPost("in", i)})
		if err != nil {
			l.t.Fatal(err)
		}
		ds, err := l.queue.Receive(ctx, &queuedriver.ReceiveRequest{Queue: "in", Consumer: "c", Max: 1})
		if err != nil || len(ds) != 1 {
			l.t.Fatal(ds, err)
		}
		g, _, err := l.locks.Acquire(ctx, &lockdriver.Request{Name: fmt.Sprint("row", i), Holder: "h", TTL: time.Hour})
		if err != nil {
			l.t.Fatal(err)
		}
		t := &queuedriver.Txn{
			ID: fmt.Sprint("c", i), Result: []byte(fmt.Sprint("r", i)), ResultFor: time.Hour,
			Settle:  []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Ack}},
			Publish: []queuedriver.Publishing{commitPost("out", i), commitPost("log", i)},
			Release: []queuedriver.LockRef{{Name: fmt.Sprint("row", i), Holder: "h", Token: g.Token}},
		}
		if i%3 == 1 {
			t.Settle[0].Verb = queuedriver.Reject // a copy goes to "dead"
		}
		l.mu.Lock()
		l.begun = append(l.begun, t)
		l.mu.Unlock()
		if _, err := l.queue.Commit(ctx, t); err != nil {
			l.t.Fatal(err)
		}
		l.mu.Lock()
		l.done++
		l.mu.Unlock()
	}
}

func commitPost(queue string, i int) queuedriver.Publishing {
	return queuedriver.Publishing{
		Route: queuedriver.Route{Key: queue}, Mandatory: true,
		Message: &queuedriver.Message{ID: fmt.Sprint("m", i), Body: make([]byte, []int{10, 3000, 70_000}[i%3])},
	}
}

// TestCommitCrashAnywhere crashes at every write, sync and change of a
// directory of a load of commits: each commit is there as a whole or not at
// all, and its repeat is right.
func TestCommitCrashAnywhere(t *testing.T) {
	type crash struct {
		disk        *storetest.Disk
		begun, done int
	}
	var crashes []crash
	disk := storetest.NewDisk()
	c, conn := startOn(t, disk)
	load := &commitLoad{t: t, queue: conn, locks: newLockConn(conn.conn)}
	disk.OnOp(func(storetest.Op) error {
		load.mu.Lock()
		defer load.mu.Unlock()
		n := len(crashes)
		crashes = append(crashes, crash{disk.Crash([]int{0, 50, 100}[n%3], int64(n)), len(load.begun), load.done})
		return nil
	})
	load.run(40)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	if len(crashes) < 150 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	whole, none := 0, 0
	for n, x := range crashes {
		w := checkCommitsAfterCrash(t, n, x.disk, load.begun[:x.begun], x.done)
		if t.Failed() {
			return
		}
		if x.begun > x.done && w {
			whole++
		} else if x.begun > x.done {
			none++
		}
	}
	t.Logf("%d crashes; of the commits under way %d were carried out, %d were not", len(crashes), whole, none)
	if whole == 0 || none == 0 {
		t.Error("the crashes have found commits in one state only")
	}
}

// checkCommitsAfterCrash reports whether the last of the commits was carried
// out.
func checkCommitsAfterCrash(t *testing.T, n int, disk *storetest.Disk, begun []*queuedriver.Txn, done int) (last bool) {
	t.Helper()
	c, conn := startOn(t, disk)
	defer func() {
		if err := c.close(); err != nil {
			t.Errorf("crash %d: close: %v", n, err)
		}
	}()
	if len(begun) == 0 {
		return false // the topology may not be there yet
	}
	locks := newLockConn(conn.conn)
	found := contents(t, conn)
	for i, txn := range begun {
		whole := wholeOrNothing(t, n, conn, locks, found, txn, i)
		if !whole && i < done {
			t.Errorf("crash %d: commit %d was confirmed and is lost", n, i)
		}
		last = whole
		r, err := conn.Commit(context.Background(), txn)
		if err != nil || r.Repeated != whole || !bytes.Equal(r.Result, txn.Result) {
			t.Errorf("crash %d: the repeat of commit %d, carried out: %v: %+v, %v", n, i, whole, r, err)
		}
	}
	found = contents(t, conn)
	for i, txn := range begun {
		if !wholeOrNothing(t, n, conn, locks, found, txn, i) {
			t.Errorf("crash %d: commit %d is not there after its repeat", n, i)
		}
	}
	return last
}

// contents counts the messages of each queue.
func contents(t *testing.T, conn *queueConn) map[string]int {
	t.Helper()
	found := make(map[string]int)
	for _, q := range []string{"in", "out", "log", "dead"} {
		ps, err := conn.Peek(context.Background(), &queuedriver.PeekRequest{Queue: q, Max: queuedriver.MaxPeek})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			found[q+"/"+p.Message.ID]++
		}
	}
	return found
}

// wholeOrNothing reports whether a commit is there; it must not be by half.
func wholeOrNothing(t *testing.T, n int, conn *queueConn, locks *lockConn, found map[string]int, txn *queuedriver.Txn, i int) bool {
	t.Helper()
	ctx := context.Background()
	r, err := conn.Result(ctx, txn.ID)
	whole := err == nil
	if err != nil && !errors.Is(err, lease.ErrNotFound) {
		t.Fatal(err)
	}
	if whole && !bytes.Equal(r.Result, txn.Result) {
		t.Errorf("crash %d: the result of commit %d is %q", n, i, r.Result)
	}
	count := func(there bool) int {
		if there {
			return 1
		}
		return 0
	}
	want := map[string]int{"in": count(!whole), "out": count(whole), "log": count(whole), "dead": count(whole && txn.Settle[0].Verb == queuedriver.Reject)}
	for q, times := range want {
		if got := found[fmt.Sprint(q, "/m", i)]; got != times {
			t.Errorf("crash %d: commit %d, carried out: %v: message in %s %d times, want %d", n, i, whole, q, got, times)
		}
	}
	info, err := locks.List(ctx, &lockdriver.ListRequest{Name: txn.Release[0].Name})
	if err != nil {
		t.Fatal(err)
	}
	if held := len(info) > 0 && len(info[0].Grants) > 0; held == whole {
		t.Errorf("crash %d: commit %d, carried out: %v: lock held: %v", n, i, whole, held)
	}
	return whole
}
