package queue

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// What a StreamReader does unless StreamOptions say otherwise.
const (
	// DefaultStreamBatch is how many messages a StreamReader reads ahead.
	DefaultStreamBatch = 500
	// DefaultSaveEvery and DefaultSaveAfter are when a StreamReader with a
	// consumer saves its offset: after so many messages, or so much time.
	DefaultSaveEvery = 1000
	DefaultSaveAfter = time.Second
	// saveTimeout bounds the saving at Close. What is not saved is read again.
	saveTimeout = 5 * time.Second
)

// StreamOptions of a StreamReader; nil and zero values work.
type StreamOptions struct {
	// From is where to begin: FromOffset with Offset, FromTime with Time,
	// FromFirst, FromLast or FromNext. "" means FromFirst. A Consumer that
	// has saved an offset goes on there, whatever From says. For one that
	// finds nothing yet, the place where it begins is saved: what comes
	// while it is away is not passed over.
	From   From
	Offset uint64
	Time   time.Time

	// Consumer is the name under which the reader saves how far it has come;
	// "" saves nothing. Two readers must not have one name at a time.
	Consumer  string
	SaveEvery int           // messages; 0: DefaultSaveEvery
	SaveAfter time.Duration // 0: DefaultSaveAfter

	// ToEnd ends the reading where there is nothing more, instead of waiting:
	// Next is io.EOF then, and All just ends.
	ToEnd bool
	Batch int // messages read ahead, 1 to driver.MaxReceive; 0: DefaultStreamBatch
}

// StreamReader reads a stream message by message, on and on. A backend that
// is away is waited for, and reading goes on behind the last message. It
// starts no goroutine.
type StreamReader struct {
	b         *Broker
	consumer  string
	saveEvery int
	saveAfter time.Duration
	toEnd     bool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	turn   chan struct{} // held by who reads or closes
	closed bool
	err    error // of Close

	req       driver.StreamRequest // what to ask for next
	resume    bool                 // the consumer's offset is to be asked for first
	buffer    []StreamMessage
	given     uint64 // behind the message that Next returned last
	handled   uint64 // the offset behind the last message known to be handled; 0: none yet
	saved     uint64
	unsaved   int
	lastSaved time.Time
}

// Stream makes a reader of a stream. It does no I/O: a stream that does not
// exist is ErrNotFound from Next.
func (b *Broker) Stream(queue string, o *StreamOptions) (*StreamReader, error) {
	if o == nil {
		o = &StreamOptions{}
	}
	r := &StreamReader{
		b: b, consumer: o.Consumer, saveEvery: o.SaveEvery, saveAfter: o.SaveAfter, toEnd: o.ToEnd,
		turn: make(chan struct{}, 1), resume: o.Consumer != "", lastSaved: time.Now(),
		req: driver.StreamRequest{Queue: queue, From: o.From, Offset: o.Offset, Time: o.Time, Max: o.Batch, Wait: pollWait},
	}
	if r.saveEvery == 0 {
		r.saveEvery = DefaultSaveEvery
	}
	if r.saveAfter == 0 {
		r.saveAfter = DefaultSaveAfter
	}
	if r.req.Max == 0 {
		r.req.Max = DefaultStreamBatch
	}
	if r.req.From == "" && r.req.Offset == 0 {
		r.req.From = FromFirst
	}
	if err := r.validate(); err != nil {
		return nil, wrap("read stream", queue, err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := b.adopt(r); err != nil {
		r.cancel()
		return nil, wrap("read stream", queue, err)
	}
	return r, nil
}

func (r *StreamReader) validate() error {
	if r.saveEvery < 1 {
		return lease.Invalidf("save_every", "must be at least 1, is %d", r.saveEvery)
	}
	if r.saveAfter < 0 {
		return lease.Invalidf("save_after", "must not be negative, is %v", r.saveAfter)
	}
	if r.consumer != "" {
		if err := driver.ValidateConsumer("consumer", r.consumer); err != nil {
			return err
		}
	}
	return r.req.Validate()
}

// Next returns the next message, and waits for it. That it is called says
// that all messages before were handled: their offset may be saved from then
// on, and not earlier, so that a reader that starts anew under the same name
// sees each message at least once. A gap in the offsets is what retention
// dropped before it was read.
func (r *StreamReader) Next(ctx context.Context) (*StreamMessage, error) {
	if err := r.enter(ctx); err != nil {
		return nil, wrap("read stream", r.req.Queue, err)
	}
	defer r.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(ErrClosed) })()
	r.settle(ctx)
	for len(r.buffer) == 0 {
		if err := r.fill(ctx); err != nil {
			return nil, wrap("read stream", r.req.Queue, err)
		}
	}
	m := &r.buffer[0]
	r.buffer = r.buffer[1:]
	r.given = m.Offset + 1
	return m, nil
}

// All ranges over the messages until ctx ends, the reader is closed, or
// something final happens, which is the last thing that it yields. As with
// Next, going on says that a message was handled; leaving the loop does not.
func (r *StreamReader) All(ctx context.Context) iter.Seq2[*StreamMessage, error] {
	return func(yield func(*StreamMessage, error) bool) {
		for {
			m, err := r.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Done says that the message which Next returned last was handled too, for
// those who stop there.
func (r *StreamReader) Done() error {
	if err := r.enter(context.Background()); err != nil {
		return wrap("read stream", r.req.Queue, err)
	}
	defer r.leave()
	r.handled = r.given
	return nil
}

// Close saves the offset behind the last message that is known to be handled,
// if the reader has a consumer's name. An error means that it may not be
// saved; what was read since is then read again.
func (r *StreamReader) Close() error {
	r.cancel()
	r.turn <- struct{}{}
	defer r.leave()
	if r.closed {
		return r.err
	}
	r.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	r.err = wrap("save offset of stream", r.req.Queue, overdue(ctx, r.save(ctx)))
	r.b.disown(r)
	return r.err
}

func (r *StreamReader) enter(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ctx.Done():
		return ErrClosed
	}
	if r.closed || r.ctx.Err() != nil {
		r.leave()
		return ErrClosed
	}
	return nil
}

func (r *StreamReader) leave() { <-r.turn }

// settle takes note that what was given has been handled, and saves when it
// is time. A save that fails is tried again with the next.
func (r *StreamReader) settle(ctx context.Context) {
	if r.given == r.handled {
		return
	}
	r.handled = r.given
	r.unsaved++
	if r.unsaved >= r.saveEvery || time.Since(r.lastSaved) >= r.saveAfter {
		r.trySave(ctx)
	}
}

func (r *StreamReader) trySave(ctx context.Context) {
	r.lastSaved = time.Now()
	if err := r.save(ctx); err != nil && ctx.Err() == nil {
		r.b.log.Warn("saving the offset of a stream failed; trying again later", "stream", r.req.Queue, "consumer", r.consumer, "error", err)
	}
}

func (r *StreamReader) save(ctx context.Context) error {
	if r.consumer == "" || r.handled == r.saved {
		return nil
	}
	if err := r.b.conn.SaveOffset(ctx, r.req.Queue, r.consumer, r.handled); err != nil {
		return err
	}
	r.saved, r.unsaved, r.lastSaved = r.handled, 0, time.Now()
	return nil
}

// fill reads the next batch. It waits out what may pass.
func (r *StreamReader) fill(ctx context.Context) error {
	var p pauses
	for {
		err := r.fillOnce(ctx)
		if ctx.Err() != nil && len(r.buffer) == 0 {
			return context.Cause(ctx)
		}
		if err == nil || permanent(err) || errors.Is(err, io.EOF) {
			return err
		}
		d := p.next()
		r.b.log.Warn("reading a stream failed; trying again", "stream", r.req.Queue, "error", err, "in", d)
		sleep(ctx, nil, d)
	}
}

func (r *StreamReader) fillOnce(ctx context.Context) error {
	if r.resume {
		offsets, err := r.b.conn.Offsets(ctx, r.req.Queue, r.consumer)
		switch {
		case err == nil && len(offsets) == 1:
			r.begin(offsets[0].Offset)
			r.saved, r.handled, r.given = offsets[0].Offset, offsets[0].Offset, offsets[0].Offset
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		r.resume = false
	}
	req := r.req
	if r.toEnd {
		req.Wait = 0
	}
	if r.consumer != "" && (req.From == FromNext || req.From == FromLast) {
		req.Wait = 0 // to know its place, which is saved below
	}
	if r.consumer != "" && r.handled != r.saved {
		req.Wait = min(req.Wait, max(0, r.saveAfter-time.Since(r.lastSaved)))
	}
	timed, cancel := context.WithTimeout(ctx, req.Wait+pollGrace)
	defer cancel()
	b, err := r.b.conn.ReadStream(timed, &req)
	if err != nil {
		return err
	}
	if len(b.Messages) == 0 && b.Next != 0 && r.consumer != "" && r.handled == 0 {
		r.handled, r.given = b.Next, b.Next
		r.trySave(ctx)
	}
	if len(b.Messages) == 0 && time.Since(r.lastSaved) >= r.saveAfter {
		r.trySave(ctx) // nobody calls Next meanwhile
	}
	if b.Next != 0 {
		r.begin(b.Next)
	}
	r.buffer = b.Messages
	if r.toEnd && len(r.buffer) == 0 {
		return io.EOF
	}
	return nil
}

// begin has the next batch begin at an offset.
func (r *StreamReader) begin(offset uint64) {
	r.req.From, r.req.Offset, r.req.Time = FromOffset, offset, time.Time{}
}

// Offsets returns how far the named consumers of a stream have come, sorted
// by name; with a consumer, that one alone, ErrNotFound if it has saved none.
func (b *Broker) Offsets(ctx context.Context, stream, consumer string) ([]Offset, error) {
	offsets, err := b.conn.Offsets(ctx, stream, consumer)
	return offsets, wrap("read offsets of", stream, err)
}

// SaveOffset says that a consumer of a stream wants to read on at an offset,
// which may be before the one that it saved last. At most driver.MaxOffsets
// consumers of a stream are remembered: ErrLimit.
func (b *Broker) SaveOffset(ctx context.Context, stream, consumer string, offset uint64) error {
	return wrap("save offset of", stream, overdue(ctx, b.conn.SaveOffset(ctx, stream, consumer, offset)))
}

// DeleteOffset forgets a consumer of a stream.
func (b *Broker) DeleteOffset(ctx context.Context, stream, consumer string) error {
	return wrap("delete offset of", stream, overdue(ctx, b.conn.DeleteOffset(ctx, stream, consumer)))
}
