package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// window is how many messages may be unconfirmed at once.
const window = 2048

// Pauses between attempts to get a connection for messages that wait for one.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second

	blockedPause = 20 * time.Millisecond // between looks whether the broker takes messages again
)

// For how long nothing may be confirmed, while the connection lives, before all
// that waits is sent again over another channel; each time that did not help it
// is twice as long. A broker whose quorum queue has no leader yet, as after a
// crash, takes messages and forgets them.
const (
	minStall = 5 * time.Second
	maxStall = 40 * time.Second
)

// Refusals of one message, each over another channel and after a pause, before
// its publisher is told. A channel that was opened before a quorum queue has a new
// leader goes on to ask the dead one, and refuses everything for ever.
const (
	maxNacks  = 4
	nackPause = 50 * time.Millisecond // before the second; then twice as long each time
)

// publisher sends messages over one channel, in the order of the calls. One
// goroutine writes; another takes what the broker says. When the channel is
// lost, what is not confirmed is sent again over the next one.
type publisher struct {
	c    *conn
	wake chan struct{} // a token: look at queue and window

	mu     sync.Mutex
	queue  []*parcel // to be written
	flying []*parcel // written and not confirmed, in order
	nacked []*parcel // that were in flying, and the broker has refused
	moved  time.Time // when something was confirmed, or the first of flying written
	cursor int       // in flying: those before it were looked at for returns
	tried  bool      // the channel has taken a message; before, one is sent alone
}

// channel is one channel of the publisher, until it is lost.
type channel struct {
	ch   *amqp.Channel
	link *link
	gone chan struct{} // closed when it is lost, and nothing more comes from it
	why  *amqp.Error   // set before that, or nil
}

func newPublisher(c *conn) *publisher { return &publisher{c: c, wake: make(chan struct{}, 1)} }

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// send sends a batch and waits until all of it is decided.
func (p *publisher) send(ctx context.Context, b *batch) error {
	p.begin(b)
	return p.wait(ctx, b)
}

// begin puts a batch behind all that were put before.
func (p *publisher) begin(b *batch) {
	if len(b.parcels) == 0 {
		return
	}
	p.mu.Lock()
	b.left = len(b.parcels)
	for i := range b.parcels {
		b.parcels[i].batch = b
		p.queue = append(p.queue, &b.parcels[i])
	}
	p.mu.Unlock()
	p.signal()
}

// wait waits until all of a batch is decided.
func (p *publisher) wait(ctx context.Context, b *batch) error {
	if len(b.parcels) == 0 {
		return nil
	}
	timer := time.NewTimer(p.c.o.PublishFor)
	defer timer.Stop()
	var cause error
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-timer.C:
		cause = fmt.Errorf("not confirmed within %v%s", p.c.o.PublishFor, p.blocked())
	case <-p.c.ctx.Done():
		cause = lease.ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case b.left == 0:
		return nil
	case p.c.isClosed() && !b.sent:
		return lease.ErrClosed
	}
	b.given = true
	if b.sent {
		return fmt.Errorf("%w: %w", lease.ErrUnknown, cause)
	}
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, cause)
}

// blocked says that the broker takes no messages, if it has said so.
func (p *publisher) blocked() string {
	l, _ := p.c.out.current()
	if l == nil {
		return ""
	}
	if why := l.blocked.Load(); why != nil {
		return ": the broker blocks publishers: " + *why
	}
	return ""
}

// run writes until the conn is closed.
func (p *publisher) run() {
	pause, stall := minPause, minStall
	for !p.c.isClosed() {
		if !p.waits() {
			select {
			case <-p.wake:
			case <-p.c.ctx.Done():
			}
			continue
		}
		ch, err := p.open()
		if err != nil {
			if p.c.pause(context.Background(), pause) == nil {
				pause = min(2*pause, maxPause)
			}
			continue
		}
		pause = minPause
		if helped := p.write(ch, stall); helped {
			stall = minStall
		} else {
			stall = min(2*stall, maxStall)
		}
		_ = ch.ch.Close() // what it says when it is lost tells nothing
		<-ch.gone
		if n := p.takeBack(ch.why); n > 0 {
			_ = p.c.pause(p.c.ctx, nackPause<<(n-1)) // it ends with the conn, as this loop
		}
	}
}

// waits reports whether there is anything to write that somebody waits for.
func (p *publisher) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.queue[0].batch.given {
		p.queue = p.queue[1:]
	}
	return len(p.queue) > 0
}

func (p *publisher) open() (*channel, error) {
	l, err := p.c.out.get(p.c.ctx)
	if err != nil {
		return nil, err
	}
	ch, err := l.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	out := &channel{ch: ch, link: l, gone: make(chan struct{})}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, window))
	// Unbuffered: a return comes before its confirmation, and is taken before
	// the client reads on.
	returns := ch.NotifyReturn(make(chan amqp.Return))
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	if !p.c.work.Start(func() { p.listen(out, confirms, returns, closes) }) {
		_ = ch.Close()
		return nil, lease.ErrClosed
	}
	return out, nil
}

// listen takes what the broker says about messages.
func (p *publisher) listen(out *channel, confirms <-chan amqp.Confirmation, returns <-chan amqp.Return, closes <-chan *amqp.Error) {
	defer close(out.gone)
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			p.returned(&r)
		case cf, ok := <-confirms:
			if !ok {
				select {
				case out.why = <-closes:
				default:
				}
				p.signal()
				return
			}
			p.confirmed(cf.Ack)
		}
	}
}

// returned notes that a message matched no queue. Returns come in the order of
// the messages.
func (p *publisher) returned(r *amqp.Return) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := p.cursor; i < len(p.flying); i++ {
		f := p.flying[i]
		if f.exchange == r.Exchange && f.key == r.RoutingKey && f.message.MessageId == r.MessageId && len(f.message.Body) == len(r.Body) {
			f.returned = true
			p.cursor = i + 1
			return
		}
	}
}

// confirmed decides the oldest message: the client tells confirmations in order.
func (p *publisher) confirmed(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flying) == 0 {
		return
	}
	f := p.flying[0]
	p.flying[0] = nil
	p.flying = p.flying[1:]
	p.moved = time.Now()
	p.cursor = max(0, p.cursor-1)
	if !ok {
		f.nacks++
	}
	if !ok && f.nacks < maxNacks {
		p.nacked = append(p.nacked, f)
		p.signal()
		return
	}
	f.decide(f.confirmed(ok))
	if !ok {
		p.giveUpBehind(f)
	}
	if len(p.flying) == window-1 || len(p.nacked) > 0 || !p.tried {
		p.signal()
	}
	p.tried = p.tried || ok
}

// giveUpBehind decides what is behind a refused message in its batch and goes the
// same way: who sends it again has them in their order. mu is held.
func (p *publisher) giveUpBehind(f *parcel) {
	behind := func(x *parcel) bool { return x.batch == f.batch && x.exchange == f.exchange && x.key == f.key }
	for _, waiting := range [...]*[]*parcel{&p.nacked, &p.queue} {
		*waiting = slices.DeleteFunc(*waiting, func(x *parcel) bool {
			if !behind(x) {
				return false
			}
			failed := fmt.Errorf("a message before it was refused: %w", lease.ErrUnavailable)
			if x.nacks > 0 { // it was sent
				failed = fmt.Errorf("a message before it was refused, and so was it: %w", lease.ErrUnknown)
			}
			x.decide(driver.Receipt{Err: failed})
			return true
		})
	}
}

// next takes the next message to be written; more is false if none can be now.
func (p *publisher) next() (f *parcel, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		f := p.queue[0]
		most := window
		if !p.tried { // what came behind one that is refused would be before it
			most = 1
		}
		if len(p.flying) >= most || len(p.nacked) > 0 {
			return nil, false
		}
		p.queue[0] = nil
		p.queue = p.queue[1:]
		switch {
		case f.batch.given:
		case f.nowhere:
			f.decide(f.confirmed(true))
		default:
			f.batch.sent = true
			if len(p.flying) == 0 {
				p.moved = time.Now()
			}
			p.flying = append(p.flying, f)
			return f, true
		}
	}
	return nil, false
}

// write writes what there is until the channel is lost or, which it reports as
// false, nothing was confirmed for too long.
func (p *publisher) write(ch *channel, stall time.Duration) bool {
	for {
		if ch.link.blocked.Load() != nil { // what is not sent is known not to be there
			if !p.idle(ch, blockedPause) {
				return true
			}
			continue
		}
		f, more := p.next()
		if more {
			if err := ch.ch.Publish(f.exchange, f.key, true, false, f.message); err != nil {
				return true // it is in flying, and is sent again
			}
			continue
		}
		left := p.patience(stall)
		if left <= 0 {
			return false
		}
		if p.refused() {
			return true
		}
		if !p.idle(ch, left) {
			return true
		}
	}
}

// patience is how long the broker may take until it confirms something.
func (p *publisher) patience(stall time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flying) == 0 {
		return time.Hour // there is nothing to wait for
	}
	return stall - time.Since(p.moved)
}

// refused reports whether the broker has refused something and has nothing else
// of this channel any more.
func (p *publisher) refused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.nacked) > 0 && len(p.flying) == 0
}

// idle waits for something to do, and is false when the channel is lost.
func (p *publisher) idle(ch *channel, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.wake:
		return !ch.ch.IsClosed()
	case <-t.C:
		return true
	case <-ch.gone:
		return false
	case <-p.c.ctx.Done():
		return false
	}
}

// takeBack puts what was not confirmed in front of what was not sent, and says
// how often the first of it was refused.
func (p *publisher) takeBack(why *amqp.Error) (nacks int) {
	p.mu.Lock()
	again := make([]*parcel, 0, len(p.nacked)+len(p.flying)+len(p.queue))
	for _, f := range slices.Concat(p.nacked, p.flying, p.queue) {
		if !f.batch.given {
			f.returned = false
			again = append(again, f)
		}
	}
	if len(p.nacked) > 0 {
		nacks = p.nacked[0].nacks
	}
	p.queue, p.nacked, p.flying, p.cursor, p.tried = again, nil, nil, 0, false
	p.mu.Unlock()
	if why != nil && why.Code == amqp.NotFound {
		p.forgetExchanges()
	}
	return nacks
}

// forgetExchanges looks anew at the exchanges of what waits: one of them is
// gone. A message to it fails, and must not stop the others again.
func (p *publisher) forgetExchanges() {
	p.c.mu.Lock()
	p.c.exchanges = map[string]bool{driver.DefaultExchange: true}
	p.c.levels = map[int64]bool{}
	p.c.mu.Unlock()
	p.mu.Lock()
	missing := map[string]error{}
	for _, f := range p.queue {
		missing[f.exchange] = nil
	}
	p.mu.Unlock()
	for name := range missing {
		if err := p.c.checkExchange(p.c.ctx, name); isNotFound(err) {
			missing[name] = err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.queue[:0]
	for _, f := range p.queue {
		if err := missing[f.exchange]; err != nil {
			f.decide(driver.Receipt{Err: err})
			continue
		}
		kept = append(kept, f)
	}
	clear(p.queue[len(kept):])
	p.queue = kept
}
