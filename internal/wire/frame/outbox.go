package frame

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"

	"github.com/coder/websocket"
)

// ErrOutboxClosed is what a sender gets when the connection has ended.
var ErrOutboxClosed = errors.New("the session has ended")

// keepBuffer is how large a buffer may be that is used again for anything, and
// keepLarge the same for one that was made for large bodies: those of one
// batch of a publisher.
const (
	keepBuffer = 2 * Flush
	keepLarge  = 9 << 20
	keepOwners = 1024 // of a parcel
)

var (
	buffers = sync.Pool{New: func() any { return new([]byte) }}
	larges  = sync.Pool{New: func() any { return new([]byte) }}
)

// Buffer returns an empty buffer to encode a frame into.
func Buffer() *[]byte {
	b := buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool has nothing else
	*b = (*b)[:0]
	return b
}

// BufferFor returns an empty buffer that has room for so many bytes, if they
// are many: a buffer that grows to the size of large bodies copies them again
// and again, and leaves more garbage than there are bodies.
func BufferFor(size int) *[]byte {
	if size <= keepBuffer {
		return Buffer()
	}
	b := larges.Get().(*[]byte) //nolint:forcetypeassert // likewise
	*b = (*b)[:0]
	if cap(*b) < size {
		*b = make([]byte, 0, size)
	}
	return b
}

// Grow returns a buffer with what is in b and room for so many bytes. b is not
// the caller's any more.
func Grow(b *[]byte, size int) *[]byte {
	if size <= keepBuffer {
		*b = append(make([]byte, 0, size), *b...)
		return b
	}
	next := BufferFor(size)
	*next = append(*next, *b...)
	Free(b)
	return next
}

// Free gives a buffer back, unless it has grown too large to keep.
func Free(b *[]byte) {
	switch {
	case cap(*b) <= keepBuffer:
		buffers.Put(b)
	case cap(*b) <= keepLarge:
		larges.Put(b)
	}
}

// Owner of a frame is told what became of it: Written is called once, when the
// frame has been written, or will never be. It must not block.
type Owner interface{ Written(ok bool) }

// Outbox gathers frames while a batch is being written: what has come together
// meanwhile is the next batch, so that batches grow with the load and a lone
// frame waits for nothing. There is a goroutine only while there is something
// to write, and a buffer likewise; a sender that may write itself needs none.
//
// Frames leave in the order of the Sends. The number of a frame is how many
// bytes have been sent with it since the beginning.
type Outbox struct {
	write func(head, batch []byte, frames int) error
	// ended is called once with the first error of a write.
	ended func(error)

	mu      sync.Mutex
	drained sync.Cond // bytes has shrunk, or closed is set
	queue   []*parcel // what waits; the last one may still be added to
	bytes   int       // of frames that wait
	sent    uint64    // numbers of frames up to here were taken for a write
	last    uint64    // number of the last frame
	writing bool      // somebody writes, or is about to
	crowded bool      // the last batch had more than one frame
	closed  bool
}

// parcel is one batch.
type parcel struct {
	head   []byte // of the only frame, whose body is all there is in buf
	buf    *[]byte
	frames int
	items  int
	last   uint64 // number of its last frame
	owners []Owner
}

var parcels = sync.Pool{New: func() any { return new(parcel) }}

func (p *parcel) done(ok bool) {
	for _, o := range p.owners {
		o.Written(ok)
	}
}

// free lets the parcel, and its buffer, be used again.
func (p *parcel) free() {
	Free(p.buf)
	clear(p.owners)
	*p = parcel{owners: p.owners[:0]}
	if cap(p.owners) <= keepOwners {
		parcels.Put(p)
	}
}

// NewOutbox makes an outbox whose batches are passed to write, one at a time; a
// head that is not empty belongs before the batch. ended is called when a write
// has failed.
func NewOutbox(write func(head, batch []byte, frames int) error, ended func(error)) *Outbox {
	o := &Outbox{write: write, ended: ended}
	o.drained.L = &o.mu
	return o
}

// Send puts a frame that has so many items into the outbox and returns its
// number: see Left. owner may be nil; it is not called if Send fails. The body
// is copied.
func (o *Outbox) Send(id uint64, body []byte, items int, owner Owner) (uint64, error) {
	number, idle, err := o.Add(id, body, items, owner)
	if idle {
		go o.run()
	}
	return number, err
}

// Give is Send of a body in a buffer of Buffer or BufferFor, which is not the
// caller's any more: a large one is not copied.
func (o *Outbox) Give(id uint64, body *[]byte, items int, owner Owner) (uint64, error) {
	number, idle, err := o.AddGiven(id, body, items, owner)
	if idle {
		go o.run()
	}
	return number, err
}

// Add is Send by somebody who may write it: if nobody else does, idle is true,
// and the caller must call Flush or Start at once.
func (o *Outbox) Add(id uint64, body []byte, items int, owner Owner) (number uint64, idle bool, err error) {
	return o.add(id, body, nil, items, owner)
}

// AddGiven is Add of a body that is given, as by Give.
func (o *Outbox) AddGiven(id uint64, body *[]byte, items int, owner Owner) (number uint64, idle bool, err error) {
	if len(*body) > Flush {
		return o.add(id, *body, body, items, owner)
	}
	defer Free(body)
	return o.add(id, *body, nil, items, owner)
}

// add adds a body, which is in a buffer of its own if given is one.
func (o *Outbox) add(id uint64, body []byte, given *[]byte, items int, owner Owner) (number uint64, idle bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return 0, false, ErrOutboxClosed
	}
	var p *parcel
	if n := len(o.queue); n > 0 {
		p = o.queue[n-1]
	}
	if p == nil || given != nil || p.head != nil || len(*p.buf)+len(body) > Flush || p.frames == MaxFrames || p.items+items > MaxItems {
		p = parcels.Get().(*parcel) //nolint:forcetypeassert // the pool has nothing else
		o.queue = append(o.queue, p)
	}
	n := p.size()
	switch {
	case given != nil:
		p.head, p.buf = appendHead(nil, id, len(body)), given
	default:
		if p.buf == nil {
			p.buf = BufferFor(len(body) + maxHead)
		}
		*p.buf = AppendFrame(*p.buf, id, body)
	}
	n = p.size() - n
	p.frames++
	p.items += items
	o.bytes += n
	o.last += uint64(n)
	p.last = o.last
	if owner != nil {
		p.owners = append(p.owners, owner)
	}
	idle = !o.writing
	o.writing = true
	return o.last, idle, nil
}

// size is how many bytes it has.
func (p *parcel) size() int {
	if p.buf == nil {
		return 0
	}
	return len(p.head) + len(*p.buf)
}

// Flush writes what waits, in the goroutine of a sender: batches whose last
// frame has a number up to most, and few of them. What is left is written in a
// goroutine of its own. alone says that nobody else is about to send.
func (o *Outbox) Flush(most uint64, alone bool) {
	if !alone {
		runtime.Gosched() // see next
	}
	for range flushes {
		p, ok := o.next(most)
		if !ok {
			break
		}
		if p == nil {
			return
		}
		o.deliver(p)
	}
	go o.run()
}

// Start writes what waits in a goroutine of its own, after an Add that found
// nobody writing.
func (o *Outbox) Start() { go o.run() }

// flushes is how many batches one sender writes, most of them for others.
const flushes = 4

// Wait blocks while more than most bytes wait to be written.
func (o *Outbox) Wait(most int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes > most && !o.closed {
		o.drained.Wait()
	}
	if o.closed {
		return ErrOutboxClosed
	}
	return nil
}

// Bytes returns how many bytes wait to be written, or are being written.
func (o *Outbox) Bytes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// Left says whether a frame may have left, by its number.
func (o *Outbox) Left(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return number <= o.sent
}

// run writes until nothing waits.
func (o *Outbox) run() {
	for {
		p, _ := o.next(math.MaxUint64)
		if p == nil {
			return
		}
		o.deliver(p)
	}
}

// next takes the next batch, nil if none waits: then nobody writes any more.
// ok is false if it goes past a number; then it is left.
func (o *Outbox) next(most uint64) (p *parcel, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.crowded {
		// Whoever is about to send as well gets the chance: one write for
		// all of them costs less than one each. A lone sender would only
		// wake up a processor for nothing.
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
	if len(o.queue) == 0 {
		o.writing = false
		o.drained.Broadcast()
		return nil, true
	}
	p = o.queue[0]
	if p.last > most {
		return nil, false
	}
	// It is short: so its memory is used again.
	copy(o.queue, o.queue[1:])
	o.queue[len(o.queue)-1] = nil
	o.queue = o.queue[:len(o.queue)-1]
	o.sent = p.last
	o.crowded = p.frames > 1
	return p, true
}

// deliver writes a batch.
func (o *Outbox) deliver(p *parcel) {
	err := o.write(p.head, *p.buf, p.frames)
	p.done(err == nil)
	if err != nil {
		o.ended(err)
		o.Close()
	}
	o.mu.Lock()
	o.bytes -= p.size()
	o.drained.Broadcast()
	o.mu.Unlock()
	p.free()
}

// Close refuses what comes later and drops what waits. It does not wait for
// the write under way; see Idle.
func (o *Outbox) Close() {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.closed = true
	dropped := o.queue
	o.queue = nil
	for _, p := range dropped {
		o.bytes -= p.size()
	}
	o.drained.Broadcast()
	o.mu.Unlock()
	for _, p := range dropped {
		p.done(false)
	}
}

// Write writes a batch, and before it a head if there is one, as one message.
func Write(ws *websocket.Conn, head, batch []byte) error {
	ctx := context.Background()
	if len(head) == 0 {
		return ws.Write(ctx, websocket.MessageBinary, batch)
	}
	w, err := ws.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	if _, err = w.Write(head); err == nil {
		_, err = w.Write(batch)
	}
	return errors.Join(err, w.Close())
}

// Idle waits until nothing waits and no write is under way.
func (o *Outbox) Idle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.drained.Wait()
	}
}
