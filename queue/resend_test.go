package queue

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// forgetful is a fake whose first publishes have an unknown outcome.
type forgetful struct {
	*fakeConn
	topology *driver.Topology
}

func (c forgetful) Caps() driver.Caps {
	caps := c.fakeConn.Caps()
	caps.Dedup = true
	return caps
}

func (c forgetful) Topology(context.Context) (*driver.Topology, error) { return c.topology, nil }

// TestUnknownPublishIsSentAgain: where every queue that it can reach knows its
// id again, and nowhere else.
func TestUnknownPublishIsSentAgain(t *testing.T) {
	topology := &driver.Topology{
		Exchanges: []driver.Exchange{{Name: "all", Alternate: "rest"}, {Name: "some"}, {Name: "rest"}, {Name: "half"}, {Name: "loop", Alternate: "loop"}},
		Queues:    []driver.Queue{{Name: "long", DedupWindow: time.Hour}, {Name: "short", DedupWindow: time.Minute - 1}, {Name: "edge", DedupWindow: time.Minute}, {Name: "none"}},
		Bindings: []driver.Binding{
			{Exchange: "all", Queue: "long"}, {Exchange: "all", ToExchange: "rest"}, {Exchange: "rest", Queue: "edge"},
			{Exchange: "some", Queue: "long"}, {Exchange: "some", Queue: "none"},
			{Exchange: "half", ToExchange: "some"},
			{Exchange: "loop", ToExchange: "loop"}, {Exchange: "loop", Queue: "long"},
		},
	}
	for route, again := range map[Route]bool{
		{Key: "long"}: true, {Key: "edge"}: true, {Key: "short"}: false, {Key: "none"}: false, {Key: "nobody"}: true,
		{Exchange: "all"}: true, {Exchange: "some"}: false, {Exchange: "half"}: false, {Exchange: "loop"}: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := forgetful{newFake(), topology}
			var ids []string
			c.onPublish = func(_ context.Context, ps []driver.Publishing) error {
				if ids = append(ids, ps[0].Message.ID); len(ids) < 3 {
					return ErrUnknown
				}
				return nil
			}
			b := New(c, &Config{Clock: lease.GoClock(), Logger: slog.New(slog.DiscardHandler), RetryFor: 30 * time.Second})
			defer b.Close()
			_, err := b.Publish(t.Context(), route, &Message{})
			p := b.Publisher(nil)
			if again && err == nil {
				ids = ids[:1] // once more, by the publisher
			} else {
				ids = nil
			}
			pending, sendErr := p.Send(t.Context(), route, &Message{})
			if sendErr != nil {
				t.Fatal(sendErr)
			}
			_, pubErr := pending.Receipt(t.Context())
			for _, e := range []error{err, pubErr} {
				if again && e != nil {
					t.Errorf("%+v: not sent again: %v", route, e)
				}
				if !again {
					wantIs(t, e, ErrUnknown)
				}
			}
			if again && (len(ids) != 3 || ids[1] != ids[2] || ids[1] == "") {
				t.Errorf("%+v: sent with the ids %q", route, ids)
			}
			_ = p.Close()
		})
	}
}

// TestUnknownStaysUnknown: a backend that is away after an unknown outcome
// makes it no more certain.
func TestUnknownStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := forgetful{newFake(), &driver.Topology{Queues: []driver.Queue{{Name: "q", DedupWindow: time.Hour}}}}
		first := true
		c.onPublish = func(context.Context, []driver.Publishing) error {
			if first {
				first = false
				return ErrUnknown
			}
			return ErrUnavailable
		}
		b := New(c, &Config{Clock: lease.GoClock(), Logger: slog.New(slog.DiscardHandler), RetryFor: 30 * time.Second})
		defer b.Close()
		_, err := b.Publish(t.Context(), Route{Key: "q"}, &Message{})
		wantIs(t, err, ErrUnknown)
	})
}
