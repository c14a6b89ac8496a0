package rabbitmq

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// stream is a subscription that stays: what comes between two receives of its
// consumer waits here. It has a channel of its own, whose prefetch is what the
// consumer said that it takes ahead.
type stream struct {
	s        *source
	consumer string
	tag      string
	inbox    *inbox
	msgs     <-chan amqp.Delivery

	mu    sync.Mutex // held by the one who reads msgs
	spare *amqp.Delivery
}

// follow reads from the consumer's subscription.
func (s *source) follow(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	w := s.enter(r.Consumer)
	defer s.leave(w)
	timer := time.NewTimer(r.Wait)
	defer timer.Stop()
	for {
		st, err := s.stream(ctx, r)
		if err != nil {
			return nil, err
		}
		ds, more, err := st.next(ctx, r, w, timer.C)
		if len(ds) > 0 || err != nil || !more {
			return ds, err
		}
	}
}

// stream returns the consumer's subscription, and makes it if there is none or
// its channel was lost.
func (s *source) stream(ctx context.Context, r *driver.ReceiveRequest) (*stream, error) {
	s.waitingM.Lock()
	defer s.waitingM.Unlock()
	if st := s.streams[r.Consumer]; st != nil && !st.inbox.dead() {
		return st, nil
	}
	in, err := s.c.openInbox(ctx)
	if err != nil {
		return nil, err
	}
	if err := in.ch.Qos(min(r.Ahead, maxAhead), 0, false); err != nil {
		return nil, in.failed(err)
	}
	msgs, err := in.ch.Consume(s.spec.Name, r.Consumer, false, false, false, false, nil)
	if err != nil {
		return nil, in.failed(err)
	}
	st := &stream{s: s, consumer: r.Consumer, tag: r.Consumer, inbox: in, msgs: msgs}
	s.streams[r.Consumer] = st
	return st, nil
}

// maxAhead is what fits into the field of the protocol.
const maxAhead = 65535

// next returns what has come. more: nothing yet, and there is time left.
func (st *stream) next(ctx context.Context, r *driver.ReceiveRequest, w *waiter, over <-chan time.Time) (ds []driver.Delivery, more bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var first amqp.Delivery
	if st.spare != nil {
		first, st.spare = *st.spare, nil
	} else {
		var ok bool
		select {
		case first, ok = <-st.msgs:
			if !ok {
				return nil, false, st.inbox.failed(amqp.ErrClosed)
			}
		case <-over:
			return nil, false, nil
		case <-w.left:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-st.s.c.ctx.Done():
			return nil, false, lease.ErrClosed
		}
	}
	size := len(first.Body)
	if d, ok := st.s.admit(st.inbox, &first, r.Lease); ok {
		ds = append(ds, d)
	}
	for len(ds) < r.Max {
		select {
		case d, ok := <-st.msgs:
			if !ok {
				return ds, true, nil
			}
			if size += len(d.Body); size > r.MaxBytes && len(ds) > 0 {
				st.spare = &d
				return ds, true, nil
			}
			if dd, ok := st.s.admit(st.inbox, &d, r.Lease); ok {
				ds = append(ds, dd)
			}
			continue
		default:
		}
		break
	}
	return ds, true, nil
}

// detach ends the subscription and hands back what nobody was given. The channel
// stays until what was given is settled.
func (st *stream) detach() {
	if err := st.inbox.ch.Cancel(st.tag, false); err != nil {
		return // it was lost, and all has gone back
	}
	st.mu.Lock()
	var left []uint64
	if st.spare != nil {
		left = append(left, st.spare.DeliveryTag)
		st.spare = nil
	}
	for d := range st.msgs {
		left = append(left, d.DeliveryTag)
	}
	st.mu.Unlock()
	for i := len(left) - 1; i >= 0; i-- {
		_ = st.inbox.ch.Nack(left[i], false, true) // a lost channel does the same
	}
	st.s.c.retire(st.inbox)
}

// drop ends the subscription with all that came over it.
func (st *stream) drop() {
	_ = st.inbox.ch.Close()
	<-st.inbox.gone
	st.s.c.lose(st.inbox)
}
