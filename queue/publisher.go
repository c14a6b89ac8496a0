package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Defaults of PublisherOptions.
const (
	DefaultWindow      = 2048
	DefaultWindowBytes = 16 << 20
	DefaultMaxBatch    = 500
)

// PublisherOptions of a Publisher; nil and zero values work.
type PublisherOptions struct {
	Window      int  // unconfirmed messages at most; 0: DefaultWindow
	WindowBytes int  // of their bodies, a longer one goes alone; 0: DefaultWindowBytes
	MaxBatch    int  // messages in one driver call, up to driver.MaxBatch; 0: DefaultMaxBatch
	Optional    bool // an unroutable message is dropped, not an error

	// Timeout is after how long a message that is not confirmed fails:
	// with ErrUnavailable if it was certainly not published, otherwise
	// with ErrUnknown. 0 means Config.RetryFor.
	Timeout time.Duration
}

// Publisher pipelines publishes. One goroutine has one driver call under way;
// whatever was sent meanwhile is the next batch, so that batches grow with
// the load and a lone message waits for nothing. A backend that keeps the order
// of batches by itself (driver.Pipeliner) gets the next ones meanwhile; it
// sends again by itself, and what fails there is not retried here. Messages reach the backend
// in the order of the Sends. One that fails does not hold up those behind it.
type Publisher struct {
	b        *Broker
	optional bool
	maxBatch int
	timeout  time.Duration
	room     *semaphore.Weighted // messages
	bytes    *semaphore.Weighted
	window   int64
	most     int64 // bytes

	mu     sync.Mutex
	queue  []*outgoing   // the last one may still be added to
	wake   chan struct{} // the queue has something, or closed is set
	closed bool
	failed error // the first failure since the last Flush
	usual  int   // length of the last batch: most likely that of the next

	done chan struct{} // the goroutine is gone

	// Where the backend takes batches before it has confirmed those before.
	pipe  driver.Pipeliner // or nil
	begun chan *outgoing   // those whose outcome is waited for, in order
}

// maxBegun is how many batches are under way at once.
const maxBegun = 16

// outgoing is one batch, from the first Send into it until it is decided.
type outgoing struct {
	ps      []driver.Publishing
	bytes   int
	expires time.Time
	done    chan struct{}
	// Set before done is closed.
	receipts []Receipt
	err      error

	ctx    context.Context // of a batch that was begun
	cancel context.CancelFunc
	wait   func() ([]Receipt, error)
}

// Publisher makes a publisher. Close it.
func (b *Broker) Publisher(o *PublisherOptions) *Publisher {
	if o == nil {
		o = &PublisherOptions{}
	}
	p := &Publisher{
		b:        b,
		optional: o.Optional,
		maxBatch: orDefault(min(o.MaxBatch, driver.MaxBatch), DefaultMaxBatch),
		timeout:  o.Timeout,
		window:   int64(orDefault(o.Window, DefaultWindow)),
		most:     int64(orDefault(o.WindowBytes, DefaultWindowBytes)),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	if p.timeout <= 0 {
		p.timeout = b.retryFor
	}
	p.room = semaphore.NewWeighted(p.window)
	p.bytes = semaphore.NewWeighted(p.most)
	if b.adopt(p) != nil {
		p.closed = true
		close(p.done)
		return p
	}
	if p.pipe, _ = b.conn.(driver.Pipeliner); p.pipe != nil {
		p.begun = make(chan *outgoing, maxBegun)
		go p.finish()
	}
	go p.run()
	return p
}

func orDefault(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

// Send puts m in the window and hands back its pending receipt. It waits for
// room in the window only; ctx bounds that wait, not the publish. An invalid
// message is ErrInvalid and is not sent. m may be used again at once, but
// not its Body and Headers before the receipt is there.
func (p *Publisher) Send(ctx context.Context, r Route, m *Message) (*Pending, error) {
	pub, err := p.b.prepare(ctx, r, m, !p.optional)
	if err != nil {
		return nil, wrap("publish to", routeName(r), err)
	}
	size := int64(len(pub.Message.Body))
	if err := p.room.Acquire(ctx, 1); err != nil {
		return nil, wrap("publish to", routeName(r), fmt.Errorf("no room in the window: %w", context.Cause(ctx)))
	}
	if err := p.bytes.Acquire(ctx, min(size, p.most)); err != nil {
		p.room.Release(1)
		return nil, wrap("publish to", routeName(r), fmt.Errorf("no room in the window: %w", context.Cause(ctx)))
	}
	pending, err := p.enqueue(pub, int(size))
	if err != nil {
		p.bytes.Release(min(size, p.most))
		p.room.Release(1)
		return nil, wrap("publish to", routeName(r), err)
	}
	return pending, nil
}

func (p *Publisher) enqueue(pub driver.Publishing, size int) (*Pending, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	var o *outgoing
	if n := len(p.queue); n > 0 {
		o = p.queue[n-1]
	}
	if o == nil || len(o.ps) == p.maxBatch || o.bytes+size > publishBatchBytes {
		o = &outgoing{
			ps:      make([]driver.Publishing, 0, min(max(p.usual, 1), p.maxBatch)),
			expires: time.Now().Add(p.timeout), done: make(chan struct{}),
		}
		p.queue = append(p.queue, o)
	}
	o.ps = append(o.ps, pub)
	o.bytes += size
	p.signal()
	return &Pending{batch: o, index: len(o.ps) - 1}, nil
}

func (p *Publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run publishes batch after batch until the publisher is closed and empty.
func (p *Publisher) run() {
	if p.pipe != nil {
		defer close(p.begun)
	} else {
		defer close(p.done)
	}
	for {
		o, closed := p.next()
		if o == nil {
			if closed {
				return
			}
			<-p.wake
			continue
		}
		if p.pipe != nil {
			p.begin(o)
			continue
		}
		p.publish(o)
	}
}

// begin sends a batch on its way without waiting for it.
func (p *Publisher) begin(o *outgoing) {
	o.ctx, o.cancel = context.WithDeadline(context.Background(), o.expires)
	if o.ctx.Err() != nil {
		o.err = fmt.Errorf("%w: its turn did not come within %v", ErrUnavailable, p.timeout)
	} else {
		o.wait, o.err = p.pipe.BeginPublish(o.ctx, o.ps)
	}
	p.begun <- o
}

// finish waits for the outcomes of what was begun.
func (p *Publisher) finish() {
	defer close(p.done)
	for o := range p.begun {
		if o.err == nil {
			o.receipts, o.err = o.wait()
		}
		if o.err == nil && len(o.receipts) != len(o.ps) {
			o.err = fmt.Errorf("%w: the driver returned %d receipts for %d messages", ErrUnknown, len(o.receipts), len(o.ps))
		}
		o.err = overdue(o.ctx, o.err)
		o.cancel()
		p.decide(o)
	}
}

// next takes the first batch; nobody adds to it any more.
func (p *Publisher) next() (o *outgoing, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, p.closed
	}
	o = p.queue[0]
	p.queue[0] = nil
	p.usual = len(o.ps)
	p.queue = p.queue[1:]
	return o, p.closed
}

func (p *Publisher) publish(o *outgoing) {
	ctx, cancel := context.WithDeadline(context.Background(), o.expires)
	defer cancel()
	if ctx.Err() != nil {
		o.err = fmt.Errorf("%w: its turn did not come within %v", ErrUnavailable, p.timeout)
	} else {
		o.receipts, o.err = p.b.send(ctx, p.timeout, o.ps)
	}
	p.decide(o)
}

// decide tells the senders what became of a batch.
func (p *Publisher) decide(o *outgoing) {
	var weight int64
	failed := o.err
	for i := range o.ps {
		weight += min(int64(len(o.ps[i].Message.Body)), p.most)
		if failed == nil && o.receipts[i].Err != nil {
			failed = o.receipts[i].Err
		}
	}
	if failed != nil {
		p.mu.Lock()
		if p.failed == nil {
			p.failed = failed
		}
		p.mu.Unlock()
	}
	n := int64(len(o.ps))
	o.ps = nil // a Pending that is kept must not keep the bodies
	close(o.done)
	p.bytes.Release(weight)
	p.room.Release(n)
}

// Flush waits until all that was sent before is decided, and returns the
// first failure since the last Flush. While others go on sending it may wait
// for some of theirs too.
func (p *Publisher) Flush(ctx context.Context) error {
	// Whoever holds the whole window knows that nothing is under way. The
	// semaphore is first come, first served, so that later Sends queue up
	// behind the flush and cannot starve it.
	if err := p.room.Acquire(ctx, p.window); err != nil {
		return wrap("flush publisher", "", context.Cause(ctx))
	}
	p.room.Release(p.window)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failed
	p.failed = nil
	return wrap("flush publisher", "", err)
}

// Close waits until everything sent is decided, which takes Timeout at most
// and a little, and returns what Flush would. Later Sends are ErrClosed.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.signal()
	}
	p.mu.Unlock()
	<-p.done
	p.b.disown(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failed
	p.failed = nil
	return wrap("close publisher", "", err)
}

// Pending is the receipt of a message that is under way.
type Pending struct {
	batch *outgoing
	index int
}

// Done is closed when the receipt is there. Messages of one batch share the
// channel.
func (p *Pending) Done() <-chan struct{} { return p.batch.done }

// Receipt waits for the receipt. The error is the receipt's, or that of ctx,
// whose end does not stop the publish.
func (p *Pending) Receipt(ctx context.Context) (Receipt, error) {
	select {
	case <-p.batch.done:
	case <-ctx.Done():
		// The outcome counts if it is there, whichever select found first.
		select {
		case <-p.batch.done:
		default:
			return Receipt{}, wrap("wait for receipt", "", context.Cause(ctx))
		}
	}
	if p.batch.err != nil {
		return Receipt{Err: p.batch.err}, wrap("publish", "", p.batch.err)
	}
	r := p.batch.receipts[p.index]
	return r, wrap("publish", "", r.Err)
}
