package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// lifeFacts is what a client knows of queues that are deleted by themselves.
type lifeFacts struct {
	there map[string]bool // confirmed, and nothing has ended it
	gone  map[string]bool // seen to be gone
}

// TestQueueLifeCrashAnywhere crashes at every write while queues are deleted
// because their consumers leave, with messages, bindings and exchanges that
// lead to each other: a queue is gone whole or there whole, and one that was
// seen to be gone does not come back.
func TestQueueLifeCrashAnywhere(t *testing.T) {
	type crash struct {
		disk  *storetest.Disk
		facts lifeFacts
	}
	var mu sync.Mutex
	var crashes []crash
	facts := lifeFacts{there: make(map[string]bool), gone: make(map[string]bool)}
	note := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	disk := storetest.NewDisk()
	c, _ := startOn(t, disk)
	e := &Engine{core: c, conns: make(map[*conn]struct{})}
	conn := e.Queues()
	disk.OnOp(func(storetest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		n := len(crashes)
		crashes = append(crashes, crash{disk.Crash([]int{0, 50, 100}[n%3], int64(n)), lifeFacts{maps.Clone(facts.there), maps.Clone(facts.gone)}})
		return nil
	})
	ctx := context.Background()
	for i := range 12 {
		auto, mine := fmt.Sprint("auto", i), fmt.Sprint("mine", i)
		from, to := fmt.Sprint("from", i), fmt.Sprint("to", i)
		own := e.Queues()
		_, err := own.Declare(ctx, &queuedriver.Topology{
			Exchanges: []queuedriver.Exchange{{Name: from, Kind: queuedriver.Fanout, Alternate: to}, {Name: to, Kind: queuedriver.Fanout}},
			Queues:    []queuedriver.Queue{{Name: auto, AutoDelete: true}, {Name: mine, Exclusive: true}},
			Bindings: []queuedriver.Binding{
				{Exchange: from, ToExchange: to}, {Exchange: to, Queue: auto}, {Exchange: to, Queue: mine}, {Exchange: from, Queue: auto},
			},
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		note(func() { facts.there[auto] = true })
		message := queuedriver.Publishing{Route: queuedriver.Route{Exchange: from}, Message: &queuedriver.Message{Body: make([]byte, 3000)}}
		if rs, err := conn.Publish(ctx, []queuedriver.Publishing{message, message}); err != nil || rs[0].Queues != 2 {
			t.Fatalf("%+v, %v", rs, err)
		}
		ds, err := conn.Receive(ctx, &queuedriver.ReceiveRequest{Queue: auto, Consumer: "c", Max: 1})
		if err != nil || len(ds) != 1 {
			t.Fatalf("%+v, %v", ds, err)
		}
		note(func() { delete(facts.there, auto) })
		if i%2 == 0 { // the delivery is the last that keeps the queue, or the consumer is
			if err := conn.Detach(ctx, auto, "c"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Settle(ctx, []queuedriver.Settlement{{Ref: ds[0].Ref, Verb: queuedriver.Ack}}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Detach(ctx, auto, "c"); err != nil {
			t.Fatal(err)
		}
		if err := own.Close(); err != nil {
			t.Fatal(err)
		}
		for has := true; has; { // each look is a round: the deletions are in the next ones
			names, _ := lifeNames(t, conn)
			has = slices.Contains(names, auto) || slices.Contains(names, mine)
		}
		note(func() { facts.gone[auto], facts.gone[mine] = true, true })
	}
	disk.OnOp(nil)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 100 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for n, x := range crashes {
		checkLife(t, n, x.disk, x.facts)
		if t.Failed() {
			return
		}
	}
}

func lifeNames(t *testing.T, conn queuedriver.Conn) (queues []string, top *queuedriver.Topology) {
	t.Helper()
	top, err := conn.Topology(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range top.Queues {
		queues = append(queues, q.Name)
	}
	return queues, top
}

func checkLife(t *testing.T, n int, disk *storetest.Disk, f lifeFacts) {
	t.Helper()
	c, conn := startOn(t, disk) // fails if a binding leads to nothing
	defer func() {
		if err := c.close(); err != nil {
			t.Errorf("crash %d: close: %v", n, err)
		}
	}()
	names, top := lifeNames(t, conn)
	for _, name := range names {
		if f.gone[name] {
			t.Errorf("crash %d: %s has come back", n, name)
		}
		var spec queuedriver.Queue
		for _, q := range top.Queues {
			if q.Name == name {
				spec = q
			}
		}
		if spec.Exclusive {
			t.Errorf("crash %d: %s is exclusive to a connection of before", n, name)
		}
		bound := 0
		for _, b := range top.Bindings {
			if b.Queue == name {
				bound++
			}
		}
		if bound != 2 {
			t.Errorf("crash %d: %s has %d of its 2 bindings", n, name, bound)
		}
	}
	for name := range f.there {
		if !slices.Contains(names, name) {
			t.Errorf("crash %d: %s is lost", n, name)
		}
	}
}
