package rabbitmq

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// stream is a subscription that stays: what comes between two receives of its
// consumer waits here. It has a channel of its own, whose prefetch is what the
// consumer said that it takes ahead.
type stream struct {
	s     *source
	tag   string
	inbox *inbox
	msgs  <-chan amqp.Delivery
	left  chan struct{} // closed when the consumer was detached

	single *single // or nil

	turn  chan struct{} // holds a token while nobody reads msgs; guards the rest
	spare *amqp.Delivery
	timer *time.Timer
}

// opening is a stream that is being made.
type opening struct {
	done chan struct{} // closed when it is there, or err says why not
	st   *stream
	err  error
	left bool // the consumer was detached meanwhile; guarded by source.waitingM
}

// maxAhead is what fits into the field of the protocol.
const maxAhead = 65535

// follow reads from the consumer's subscription.
func (s *source) follow(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	wait := r.Wait
	if s.spec.SingleActive {
		wait = max(wait, singleWait)
	}
	end := time.Now().Add(wait)
	for {
		st, err := s.stream(ctx, r, end)
		if st == nil || err != nil {
			return nil, err
		}
		if st.single != nil && !st.single.enter() {
			return nil, nil
		}
		ds, more, err := st.next(ctx, r, end)
		if st.single != nil {
			st.single.leave()
		}
		if len(ds) > 0 || err != nil || !more {
			return ds, err
		}
	}
}

// ahead is the prefetch for a consumer.
func (s *source) ahead(r *driver.ReceiveRequest) int {
	if r.Ahead == 0 { // of a queue with a single active consumer
		return max(singleAhead, r.Max)
	}
	return min(r.Ahead, maxAhead)
}

// stream returns the consumer's subscription, and makes it if there is none or
// its channel was lost. It is nil if the time is over before.
func (s *source) stream(ctx context.Context, r *driver.ReceiveRequest, end time.Time) (*stream, error) {
	s.waitingM.Lock()
	if st := s.streams[r.Consumer]; st != nil && !st.inbox.dead() {
		s.waitingM.Unlock()
		return st, nil
	}
	o := s.openings[r.Consumer]
	if o == nil {
		o = &opening{done: make(chan struct{})}
		if !s.c.work.Start(func() { s.openStream(o, r.Consumer, s.ahead(r)) }) {
			s.waitingM.Unlock()
			return nil, lease.ErrClosed
		}
		s.openings[r.Consumer] = o
	}
	s.waitingM.Unlock()
	left := time.Until(end)
	if s.spec.SingleActive { // who comes first is active: it must have its place
		left = max(left, s.c.o.Timeout)
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-o.done:
		return o.st, o.err
	case <-timer.C:
		return nil, nil //nolint:nilnil // nothing came in time; the next receive finds it
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.c.ctx.Done():
		return nil, lease.ErrClosed
	}
}

// openStream makes a subscription. A broker may take its time for that, and the
// client does not let go of a request: it outlives the receive that began it.
func (s *source) openStream(o *opening, consumer string, ahead int) {
	st, err := s.subscribeAhead(consumer, ahead)
	s.waitingM.Lock()
	left := o.left
	if !left {
		o.st, o.err = st, err
		if err == nil {
			s.streams[consumer] = st
		}
	}
	if s.openings[consumer] == o {
		delete(s.openings, consumer)
	}
	s.waitingM.Unlock()
	close(o.done)
	if left && err == nil {
		st.detach()
	}
}

func (s *source) subscribeAhead(consumer string, ahead int) (*stream, error) {
	in, err := s.c.openInbox(s.c.ctx, ahead)
	if err != nil {
		return nil, err
	}
	var msgs <-chan amqp.Delivery
	if err = in.ch.Qos(ahead, 0, false); err == nil {
		msgs, err = in.ch.Consume(s.spec.Name, consumer, false, false, false, false, nil)
	}
	if err != nil {
		err = in.failed(err)
		in.close()
		return nil, err
	}
	st := &stream{
		s: s, tag: consumer, inbox: in, msgs: msgs, left: make(chan struct{}), turn: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
	}
	st.timer.Stop()
	st.turn <- struct{}{}
	if s.spec.SingleActive {
		st.single = newSingle(st)
		in.single = st.single
	}
	return st, nil
}

// next returns what has come. more: nothing yet, and there may be time left.
func (st *stream) next(ctx context.Context, r *driver.ReceiveRequest, end time.Time) (ds []driver.Delivery, more bool, err error) {
	select {
	case <-st.turn:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	case <-st.left:
		return nil, false, nil
	}
	defer func() { st.turn <- struct{}{} }()
	if isClosed(st.left) {
		return nil, false, nil
	}
	if st.single != nil {
		if ds := st.single.retake(r); len(ds) > 0 {
			return ds, true, nil
		}
	}
	first, ok, more, err := st.first(ctx, end)
	if !ok {
		return nil, more, err
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

// first waits for a message; more: none came, but one was released.
func (st *stream) first(ctx context.Context, end time.Time) (d amqp.Delivery, ok, more bool, err error) {
	if st.spare != nil {
		d, st.spare = *st.spare, nil
		return d, true, false, nil
	}
	var back <-chan struct{}
	if st.single != nil {
		back = st.single.back
	}
	select {
	case d, ok = <-st.msgs: // most often
	default:
		st.timer.Reset(time.Until(end))
		defer st.timer.Stop()
		select {
		case d, ok = <-st.msgs:
		case <-back:
			return d, false, true, nil
		case <-st.timer.C:
			return d, false, false, nil
		case <-st.left:
			return d, false, false, nil
		case <-ctx.Done():
			return d, false, false, context.Cause(ctx)
		case <-st.s.c.ctx.Done():
			return d, false, false, lease.ErrClosed
		}
	}
	switch {
	case ok:
		return d, true, false, nil
	case isClosed(st.left):
		return d, false, false, nil
	}
	return d, false, false, st.ended()
}

// ended says why nothing comes any more. A broker ends a subscription alone, and
// leaves its channel open, when the queue is deleted or its node is lost.
func (st *stream) ended() error {
	if !st.inbox.ch.IsClosed() {
		s := st.s
		s.waitingM.Lock()
		if s.streams[st.tag] == st {
			delete(s.streams, st.tag)
		}
		s.waitingM.Unlock()
		st.inbox.retire()
	}
	return st.inbox.failed(amqp.ErrClosed)
}

// detach ends the subscription and hands back what nobody was given. The channel
// stays until what was given is settled.
func (st *stream) detach() {
	close(st.left)
	if st.single != nil {
		st.single.end()
		return
	}
	if err := st.inbox.ch.Cancel(st.tag, false); err != nil {
		return // it was lost, and all has gone back
	}
	<-st.turn
	var left []uint64
	if st.spare != nil {
		left = append(left, st.spare.DeliveryTag)
		st.spare = nil
	}
	for d := range st.msgs {
		left = append(left, d.DeliveryTag)
	}
	st.turn <- struct{}{}
	for i := len(left) - 1; i >= 0; i-- {
		_ = st.inbox.back(left[i], false) // a lost channel does the same
	}
	st.inbox.retire()
}

// drop ends the subscription with all that came over it.
func (st *stream) drop() {
	_ = st.inbox.ch.Close()
	<-st.inbox.gone
	st.s.c.lose(st.inbox)
}
