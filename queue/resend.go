package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// resendWindows is how much longer than all attempts together a queue must
// remember ids for a repeat to be harmless.
const resendWindows = 2

// send publishes one batch: again while it is certain that it was not carried
// out, and also when the outcome is unknown and all queues that the messages
// can reach know their ids again.
func (b *Broker) send(ctx context.Context, within time.Duration, ps []driver.Publishing) (rs []Receipt, err error) {
	maybe := false // an earlier attempt may have been carried out
	err = b.retry(ctx, within, func() error {
		rs, err = b.publishOnce(ctx, ps)
		if !errors.Is(err, ErrUnknown) {
			return err
		}
		if !b.remembers(ctx, within, ps) {
			maybe = false // said by err itself
			return err
		}
		maybe = true
		return fmt.Errorf("%w: %s", ErrUnavailable, err.Error()) // so that it is made again
	})
	if maybe && errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %s", ErrUnknown, err.Error())
	}
	return rs, err
}

// remembers reports whether every queue that the messages can reach refuses
// their ids for long enough, so that sending them again stores none twice. What
// is not known for certain is a no.
func (b *Broker) remembers(ctx context.Context, within time.Duration, ps []driver.Publishing) bool {
	if !b.caps.Dedup {
		return false
	}
	var t *driver.Topology
	err := b.retry(ctx, within, func() (err error) {
		t, err = b.conn.Topology(ctx)
		return err
	})
	if err != nil {
		return false
	}
	w := windows{topology: t, least: resendWindows * within, seen: map[string]bool{}}
	for i := range ps {
		r := ps[i].Route
		if r.Exchange == "" && !w.queue(r.Key) || r.Exchange != "" && !w.exchange(r.Exchange) {
			return false
		}
	}
	return true
}

// windows looks at what can be reached in a topology.
type windows struct {
	topology *driver.Topology
	least    time.Duration
	seen     map[string]bool // exchanges
}

// queue reports whether a queue remembers ids. One that is not there gets
// nothing.
func (w *windows) queue(name string) bool {
	for i := range w.topology.Queues {
		if q := &w.topology.Queues[i]; q.Name == name {
			return q.DedupWindow >= w.least
		}
	}
	return true
}

// exchange reports it for all queues behind an exchange, whatever the keys of
// the bindings are.
func (w *windows) exchange(name string) bool {
	if w.seen[name] {
		return true
	}
	w.seen[name] = true
	for i := range w.topology.Bindings {
		bd := &w.topology.Bindings[i]
		if bd.Exchange != name {
			continue
		}
		if bd.Queue != "" && !w.queue(bd.Queue) || bd.ToExchange != "" && !w.exchange(bd.ToExchange) {
			return false
		}
	}
	for i := range w.topology.Exchanges {
		if e := &w.topology.Exchanges[i]; e.Name == name && e.Alternate != "" && !w.exchange(e.Alternate) {
			return false
		}
	}
	return true
}
