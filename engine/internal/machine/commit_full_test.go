package machine

import (
	"errors"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestCommitBesideItself: a message is admitted beside what else the commit
// does to its queue, and one that is stored once counts once.
func TestCommitBesideItself(t *testing.T) {
	m := newCommitModel(t, 1)
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "full", MaxLength: 2, DedupWindow: time.Hour}}}
	if err := top.Validate(&queuedriver.Caps{MinLease: time.Second, MaxLease: time.Hour, MaxLength: true}); err != nil {
		t.Fatal(err)
	}
	m.tick()
	d := &Declare{Topology: top}
	m.m.Declare(m.store, d)
	m.endRound()
	commit := func(ids ...string) error {
		txn := &queuedriver.Txn{}
		for _, id := range ids {
			txn.Publish = append(txn.Publish, queuedriver.Publishing{Route: queuedriver.Route{Key: "full"}, Message: &queuedriver.Message{ID: id}})
		}
		m.tick()
		c := &Commit{Txn: txn}
		m.c.Commit(m.now, m.store, m.store, c)
		m.endRound()
		return c.Err
	}
	for _, step := range []struct {
		ids  []string
		want error
	}{
		{[]string{"a", "b", "c"}, queuedriver.ErrQueueFull},
		{[]string{"a", "a", "a"}, nil},
		{[]string{"a", "b", "c"}, queuedriver.ErrQueueFull},
		{[]string{"a", "b", "a", "b"}, nil},
		{[]string{"b", "a"}, nil},
		{[]string{"c"}, queuedriver.ErrQueueFull},
	} {
		if err := commit(step.ids...); !errors.Is(err, step.want) || (err == nil) != (step.want == nil) {
			t.Errorf("%v: %v, want %v", step.ids, err, step.want)
		}
	}
	if live := m.m.queues["full"].counters.Live; live != 2 {
		t.Errorf("%d messages are in it", live)
	}
}
