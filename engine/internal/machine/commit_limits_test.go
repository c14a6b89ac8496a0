package machine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// bigView counts the bodies that are read.
type bigView struct {
	View
	bytes int
}

func (v *bigView) Message(q uint32, first, seq uint64) (*record.Message, error) {
	rec, err := v.View.Message(q, first, seq)
	if err == nil {
		v.bytes += len(rec.Body)
	}
	return rec, err
}

// commitOn makes a commit in a round of its own.
func commitOn(h *harness, view View, t *queuedriver.Txn) *Commit {
	c := &Commit{Txn: t, Digest: t.Digest()}
	commits := NewCommits(h.m, NewLocks(h.m.tokens, [16]byte{}))
	h.round(func() { commits.Commit(h.now, h.store, view, c) })
	return c
}

// TestCommitReadsAreBounded rejects more than a commit may read, into a dead
// letter that leads nowhere, so that nothing of it is stored.
func TestCommitReadsAreBounded(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "nowhere", Kind: queuedriver.Fanout}},
		Queues:    []queuedriver.Queue{{Name: "work", DeadLetter: &queuedriver.Route{Exchange: "nowhere"}, DeliveryLimit: 2, Lease: time.Hour}},
	})
	body := make([]byte, queuedriver.MaxBody)
	const n = MaxFanOutBytes/queuedriver.MaxBody + 4
	for i := range n {
		c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: body}}}}
		h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	}
	txn := &queuedriver.Txn{}
	for len(txn.Settle) < n {
		for _, l := range h.receive("work", 1) {
			txn.Settle = append(txn.Settle, queuedriver.Settlement{Ref: queuedriver.Ref{Queue: "work", Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Reject})
		}
	}
	view := &bigView{View: h.store}
	c := commitOn(h, view, txn)
	var failed *queuedriver.CommitError
	if !errors.As(c.Err, &failed) || !errors.Is(c.Err, lease.ErrLimit) || failed.Part != queuedriver.PartSettle || view.bytes > MaxFanOutBytes {
		t.Errorf("%d deliveries: %v, after reading %d bytes", n, c.Err, view.bytes)
	}
	txn.Settle = txn.Settle[:n/2]
	if c = commitOn(h, view, txn); c.Err != nil {
		t.Errorf("the half of them: %v", c.Err)
	}
}

// TestCommitStepsAreBounded publishes messages that are costly to route: as
// many as fit into the steps of a commit, and more.
func TestCommitStepsAreBounded(t *testing.T) {
	top := &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Topic}},
		Queues:    []queuedriver.Queue{{Name: "q"}},
	}
	for i := range queuedriver.MaxBindingsPerQueue {
		top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: "x", Queue: "q", Key: fmt.Sprintf("#.a.%d", i)})
	}
	h := newHarness(t, top)
	route := queuedriver.Route{Exchange: "x", Key: strings.Repeat("a.", 30) + "1"}
	one := commitOn(h, h.store, &queuedriver.Txn{Publish: []queuedriver.Publishing{{Route: route, Message: &queuedriver.Message{ID: "0"}}}})
	if one.Err != nil {
		t.Fatal(one.Err)
	}
	steps := h.m.routing.steps
	txn := &queuedriver.Txn{}
	for i := range queuedriver.MaxCommitPublish {
		txn.Publish = append(txn.Publish, queuedriver.Publishing{Route: route, Message: &queuedriver.Message{ID: fmt.Sprint(i)}})
	}
	before := h.stats("q").Ready
	c := commitOn(h, h.store, txn)
	var failed *queuedriver.CommitError
	if !errors.As(c.Err, &failed) || !errors.Is(c.Err, lease.ErrLimit) || failed.Part != queuedriver.PartPublish || h.stats("q").Ready != before {
		t.Fatalf("1000 messages of %d steps: %v", steps, c.Err)
	}
	txn.Publish = txn.Publish[:failed.Index]
	if c = commitOn(h, h.store, txn); c.Err != nil || len(txn.Publish) < MaxCommitSteps/(steps+10) {
		t.Errorf("%d of %d steps: %v", len(txn.Publish), steps, c.Err)
	}
}

// TestCommitCopiesAreBounded publishes messages without a body, of which each
// goes to many queues.
func TestCommitCopiesAreBounded(t *testing.T) {
	top := &queuedriver.Topology{Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Fanout}}}
	const queues = 1200
	for i := range queues {
		name := fmt.Sprint("q", i)
		top.Queues = append(top.Queues, queuedriver.Queue{Name: name})
		top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: "x", Queue: name})
	}
	h := newHarness(t, top)
	p := queuedriver.Publishing{Route: queuedriver.Route{Exchange: "x"}, Message: &queuedriver.Message{}}
	txn := &queuedriver.Txn{Publish: slices.Repeat([]queuedriver.Publishing{p}, queuedriver.MaxCommitPublish)}
	if c := commitOn(h, h.store, txn); !errors.Is(c.Err, lease.ErrLimit) {
		t.Errorf("%d copies: %v", queues*len(txn.Publish), c.Err)
	}
	txn.Publish = txn.Publish[:20]
	if c := commitOn(h, h.store, txn); c.Err != nil || h.stats("q7").Ready != 20 {
		t.Errorf("%d copies: %v", queues*len(txn.Publish), c.Err)
	}
}
