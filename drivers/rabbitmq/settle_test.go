package rabbitmq

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestNoCopyOfLostDelivery: a delivery that went back with its channel is not
// copied as well, when its lease runs out: the broker gives it to somebody else.
func TestNoCopyOfLostDelivery(t *testing.T) {
	t.Parallel()
	c := &conn{o: &Options{PublishFor: time.Millisecond}, exchanges: map[string]bool{driver.DefaultExchange: true}, leases: newLeases()}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	defer c.cancel()
	c.out, c.pub = newSide(c, "publish"), newPublisher(c)
	in := &inbox{gone: make(chan struct{})}
	close(in.gone)
	h := &held{inbox: in, tag: 1, attempt: 1, spec: &driver.Queue{
		Name: "q", DeliveryLimit: 1, DeadLetter: &driver.Route{Key: "dead"},
	}}
	st := &driver.Settlement{Verb: driver.Nack}
	if o := c.finish(c.ctx, []*held{h}, []*driver.Settlement{st})[0]; !errors.Is(o.Err, lease.ErrNotHeld) {
		t.Errorf("the outcome is %+v", o)
	}
	if n := len(c.pub.queue); n > 0 {
		t.Errorf("%d copies are to be published", n)
	}
}
