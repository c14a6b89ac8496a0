package rabbitmq

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Acks of a subscription are put together, since each costs the broker about as
// much as a message: so many of its prefetch, or as many as there are after a
// pause. The rest of the prefetch keeps messages coming meanwhile.
const (
	ackPart  = 8 // of the prefetch, one over it
	maxAcks  = 256
	ackPause = time.Millisecond
)

// inbox is a channel over which messages come.
type inbox struct {
	ch   *amqp.Channel
	gone chan struct{}

	open    atomic.Int64 // deliveries that are not settled
	retired atomic.Bool  // to be closed when there are none
	single  *single      // whose it is, or nil

	mu     sync.Mutex // held while the broker is told about deliveries
	why    *amqp.Error
	ledger ledger
	every  int         // so many acks are put together
	pause  *time.Timer // until those that are fewer are sent
	armed  bool        // pause is under way
}

// openInbox opens a channel to receive over. With a prefetch its acks are put
// together.
func (c *conn) openInbox(ctx context.Context, prefetch int) (*inbox, error) {
	l, err := c.in.get(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := l.conn.Channel()
	if err != nil {
		return nil, classify(err, lease.ErrUnavailable)
	}
	in := &inbox{ch: ch, gone: make(chan struct{}), every: min(max(1, prefetch/ackPart), maxAcks), pause: time.NewTimer(time.Hour)}
	in.pause.Stop()
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	c.mu.Lock()
	c.inboxes[in] = struct{}{}
	c.mu.Unlock()
	if !c.work.Start(func() { c.watch(in, closes) }) {
		c.lose(in)
		_ = ch.Close()
		return nil, lease.ErrClosed
	}
	return in, nil
}

// watch sends what was put together, until the channel is lost.
func (c *conn) watch(in *inbox, closes <-chan *amqp.Error) {
	defer c.lose(in)
	defer close(in.gone)
	defer in.pause.Stop()
	for {
		select {
		case why := <-closes:
			in.mu.Lock()
			in.why = why
			in.mu.Unlock()
			return
		case <-in.pause.C:
			in.late()
		}
	}
}

func (in *inbox) dead() bool { return isClosed(in.gone) || in.ch.IsClosed() }

// failed says why a request over the channel failed.
func (in *inbox) failed(err error) error {
	if in.ch.IsClosed() {
		<-in.gone
		in.mu.Lock()
		why := in.why
		in.mu.Unlock()
		if why != nil {
			err = why
		}
	}
	return classify(err, lease.ErrUnavailable)
}

// acked is an ack of a settlement.
type acked struct {
	inbox *inbox
	tag   uint64
	at    int // of its outcome
}

// ack acks deliveries. failed is called for those whose channel is known to be
// lost.
func (c *conn) ack(as []acked, failed func(at int)) {
	for len(as) > 0 {
		in, n := as[0].inbox, 1
		for n < len(as) && as[n].inbox == in {
			n++
		}
		if err := in.ack(as[:n]); err != nil {
			for _, a := range as[:n] {
				failed(a.at)
			}
		}
		c.settled(in, n)
		as = as[n:]
	}
}

func (in *inbox) ack(as []acked) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, a := range as {
		in.ledger.ack(a.tag)
	}
	if len(in.ledger.acks) < in.every {
		if !in.armed {
			in.armed = true
			in.ledger.old = 0
			in.pause.Reset(ackPause)
		}
		return nil
	}
	// Those behind a delivery that takes its time wait for it a little, unless
	// they become many.
	err := in.send(func(uint64) bool { return in.every == 1 })
	if err == nil && len(in.ledger.acks) >= in.every {
		err = in.send(always)
	}
	return err
}

func always(uint64) bool { return true }

// send sends acks; mu is held.
func (in *inbox) send(take func(tag uint64) bool) error {
	upTo, multiple, single := in.ledger.take(take)
	if upTo > 0 {
		if err := in.ch.Ack(upTo, multiple); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := in.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// late sends, after a pause, what was put together. What one delivery keeps
// from being acked together is acked one by one after a second pause.
func (in *inbox) late() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.armed = false
	old := in.ledger.old
	in.ledger.old = 0
	for _, tag := range in.ledger.acks {
		in.ledger.old = max(in.ledger.old, tag)
	}
	_ = in.send(func(tag uint64) bool { return tag <= old }) // a lost channel has told all
	if len(in.ledger.acks) > 0 {
		in.armed = true
		in.pause.Reset(ackPause)
	}
}

// flush sends all acks.
func (in *inbox) flush() {
	in.mu.Lock()
	defer in.mu.Unlock()
	_ = in.send(always) // a lost channel needs none
}

// back hands a delivery back. failing counts as an attempt with every broker.
func (in *inbox) back(tag uint64, failing bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ledger.decide(tag)
	if failing {
		return in.ch.Reject(tag, true)
	}
	return in.ch.Nack(tag, false, true)
}

// settled notes that so many deliveries are settled, and closes a channel that
// waited for that.
func (c *conn) settled(in *inbox, n int) {
	if in.single != nil {
		in.single.hear()
	}
	if in.open.Add(int64(-n)) <= 0 && in.retired.Load() {
		c.work.Start(in.close)
	}
}

// retire closes a channel when nothing that came over it is open.
func (in *inbox) retire() {
	in.retired.Store(true)
	if in.open.Load() <= 0 {
		in.close()
	}
}

func (in *inbox) close() {
	in.flush()
	_ = in.ch.Close() // it may be lost
}

// farewell sends the acks that were put together, before the connection is
// closed.
func (c *conn) farewell() {
	done := make(chan struct{})
	if !c.work.Start(func() {
		defer close(done)
		c.mu.Lock()
		ins := make([]*inbox, 0, len(c.inboxes))
		for in := range c.inboxes {
			ins = append(ins, in)
		}
		c.mu.Unlock()
		for _, in := range ins {
			in.flush()
		}
	}) {
		return
	}
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C: // the connection does not take them
	}
}
