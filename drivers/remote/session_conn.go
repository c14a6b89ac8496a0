package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/semaphore"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	// watchEvery is how often a session looks for signs of life. A
	// connection that swallows everything is given up within PingBusy +
	// PingWait + watchEvery while calls are under way.
	watchEvery = 500 * time.Millisecond
	// slowest is the slowest rate, in bytes a second, at which a daemon may
	// take what is sent before it counts as gone.
	slowest = 256 << 10
	// flushBytes is how many bytes may be on their way for a caller to write
	// what it sends by itself: so little fits into the buffers of the
	// connection, so that the write does not wait for the daemon.
	flushBytes = 16 << 10
	// readPart is how many bytes are read at a time, and corkLeast from how
	// many on a batch is written in larger parts.
	readPart  = 64 << 10
	corkLeast = 8 << 10
	// smallBody is up to which size a request is not counted against the
	// bytes that the daemon has room for: MaxCalls of them are little.
	smallBody = 4 << 10
)

// conn is one session: a connection that has been greeted. It ends with its
// first failure, and is then replaced by its link.
type conn struct {
	ws    *websocket.Conn
	below *corked // nil: unknown
	hello *frame.Greeting
	out   *frame.Outbox
	ended func(*conn) // told once
	calls *semaphore.Weighted
	waits *semaphore.Weighted
	room  *semaphore.Weighted // bytes of large requests

	heard  atomic.Int64 // when something came last: since born
	born   time.Time
	work   sync.WaitGroup
	closed chan struct{} // when it is over

	mu      sync.Mutex
	last    uint64 // id of the last request
	arrived uint64 // number of the last frame, in the outbox, that the daemon is known to have got
	pending map[uint64]*pending
	open    int       // requests that are not over: the pending ones, and one that is being answered
	inLine  int       // acquires among them that wait
	empty   sync.Cond // open is 0, or failed is set
	failed  error
}

// dialSession connects and waits for the hello.
func dialSession(ctx context.Context, c *Client, ended func(*conn)) (*conn, error) {
	header := c.header()
	var below *corked
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { below = corkOf(i.Conn) }})
	//nolint:bodyclose // by the library's contract it need not be
	ws, resp, err := websocket.Dial(ctx, c.base+"/v1/connect", &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: []string{frame.Protocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, refusal(resp, err)
	}
	ws.SetReadLimit(frame.MaxBatch)
	k := &conn{ws: ws, below: below, ended: ended, born: time.Now(), closed: make(chan struct{}), pending: map[uint64]*pending{}}
	k.empty.L = &k.mu
	if err := k.greeted(ctx); err != nil {
		_ = ws.CloseNow()
		return nil, err
	}
	k.calls = semaphore.NewWeighted(int64(k.hello.MaxCalls))
	k.waits = semaphore.NewWeighted(int64(k.hello.MaxWaits))
	k.room = semaphore.NewWeighted(int64(max(smallBody, k.hello.MaxCallBytes-smallBody*k.hello.MaxCalls)))
	k.out = frame.NewOutbox(k.write, k.fail)
	k.work.Go(k.read)
	k.work.Go(k.watch)
	return k, nil
}

// greeted reads the hello.
func (k *conn) greeted(ctx context.Context) error {
	kind, b, err := k.ws.Read(ctx)
	if err != nil {
		return fmt.Errorf("no hello came: %w", err)
	}
	f, _, err := frame.Next(b)
	if err != nil || kind != websocket.MessageBinary || f.Kind != frame.Hello {
		return errors.New("what answers does not begin with a hello")
	}
	if k.hello, err = frame.ParseHello(f.Body); err != nil {
		return err
	}
	g := k.hello
	if g.Service != wire.Service || g.MaxCalls < 1 || g.MaxWaits < 1 || g.MaxItems < 2 || g.SilenceBusy <= 0 || g.SilenceIdle <= 0 {
		return errors.New("what answers greets like no lockkeeper")
	}
	return nil
}

func (k *conn) write(head, batch []byte, _ int) (err error) {
	if k.below != nil && len(batch) > corkLeast {
		k.below.cork()
		defer func() {
			if late := k.below.uncork(); err == nil {
				err = late
			}
		}()
	}
	return frame.Write(k.ws, head, batch) // watch ends one that hangs
}

// fail ends the session. What has no answer is told so.
func (k *conn) fail(err error) {
	k.mu.Lock()
	if k.failed != nil {
		k.mu.Unlock()
		return
	}
	k.failed = err
	left := k.pending
	k.pending = map[uint64]*pending{}
	k.empty.Broadcast()
	k.mu.Unlock()
	close(k.closed)
	k.ended(k)
	k.out.Close()
	for _, p := range left {
		p.err = &lostError{err: err, sent: k.out.Left(p.number)}
		waits, bytes := p.waits, p.bytes
		p.done <- struct{}{}
		k.free(waits, bytes) // who waits for room finds the end
	}
	k.work.Go(func() { _ = k.ws.CloseNow() }) // wakes whoever reads or writes
}

// lostError is why a request has no answer. sent says whether it may have left
// this machine.
type lostError struct {
	err  error
	sent bool
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// close ends the session in order: what abandoned calls left behind is cleared
// up first, within abandonTimeout.
func (k *conn) close() {
	done := make(chan struct{})
	stop := time.AfterFunc(abandonTimeout, func() { k.fail(lease.ErrClosed) })
	go func() {
		defer close(done)
		k.mu.Lock()
		defer k.mu.Unlock()
		for k.open > 0 && k.failed == nil {
			k.empty.Wait()
		}
	}()
	<-done
	stop.Stop()
	k.mu.Lock()
	failed := k.failed
	k.mu.Unlock()
	if failed == nil {
		k.out.Idle()
		_ = k.ws.Close(websocket.StatusNormalClosure, "") // the reader sees it end
	}
	k.fail(lease.ErrClosed)
	k.out.Idle()
	k.work.Wait()
}

// start sends a request, whose buffer is not the caller's any more. It waits
// for room within the daemon's limits.
func (k *conn) start(x *exchange, p *pending, b *[]byte, items int) (id uint64, err error) {
	given := false
	defer func() {
		if !given {
			frame.Free(b)
		}
	}()
	slots := k.calls
	if p.waits {
		slots = k.waits
	}
	if err := x.acquire(slots, 1); err != nil {
		return 0, &lostError{err: fmt.Errorf("too many calls are under way: %w", err)}
	}
	if n := len(*b); n > smallBody {
		p.bytes = min(int64(n), int64(max(smallBody, k.hello.MaxCallBytes-smallBody*k.hello.MaxCalls)))
		if err := x.acquire(k.room, p.bytes); err != nil {
			slots.Release(1)
			return 0, &lostError{err: fmt.Errorf("too many bytes of calls are under way: %w", err)}
		}
	}
	if p.done == nil {
		p.done = make(chan struct{}, 1)
	}
	k.mu.Lock()
	if k.failed != nil {
		defer k.mu.Unlock()
		k.free(p.waits, p.bytes)
		return 0, &lostError{err: k.failed}
	}
	k.last++
	id = k.last
	k.pending[id] = p
	given = true
	// Under the lock, so that ids leave in their order.
	number, idle, err := k.out.AddGiven(id, b, items, nil)
	if err != nil { // the connection has failed, and fail has not come here yet
		delete(k.pending, id)
		k.mu.Unlock()
		k.free(p.waits, p.bytes)
		return 0, &lostError{err: err}
	}
	p.number = number
	k.open++
	if p.inLine() {
		k.inLine++
	}
	// Those who stand in line do not send: a lone worker who gives a contended
	// name on must not let others run first.
	most, alone := k.arrived+flushBytes, k.open-k.inLine <= 1
	k.mu.Unlock()
	if idle {
		k.out.Flush(most, alone)
	}
	return id, nil
}

// free gives back what a request took of the daemon's limits.
func (k *conn) free(waits bool, bytes int64) {
	if waits {
		k.waits.Release(1)
	} else {
		k.calls.Release(1)
	}
	if bytes > 0 {
		k.room.Release(bytes)
	}
}

// do sends a request and waits for its answer. When the exchange ends first, the
// request is cancelled where that is possible; what it is answered then is
// cleared up by answered.
func (k *conn) do(x *exchange, p *pending, b *[]byte, items int) error {
	id, err := k.start(x, p, b, items)
	if err != nil {
		return err
	}
	var why error
	select {
	case <-p.done:
		return p.err
	case <-x.ctx.Done():
		why = x.ctx.Err()
	case <-x.late():
		why = context.DeadlineExceeded
	case <-x.s.ctx.Done():
		why = context.Canceled
	}
	k.mu.Lock()
	select {
	case <-p.done:
		k.mu.Unlock()
		return p.err
	default:
	}
	p.abandoned, x.left = true, true
	k.mu.Unlock()
	if p.waits || p.kind == frame.Call {
		b := frame.Buffer()
		*b = frame.AppendCancel(*b)
		_, _ = k.out.Send(id, *b, 0, nil) // a session that has ended has cancelled it
		frame.Free(b)
	}
	return &lostError{err: why, sent: true}
}

// read takes the daemon's batches until the connection ends.
func (k *conn) read() {
	b := frame.Buffer()
	defer func() { frame.Free(b) }()
	for {
		kind, r, err := k.ws.Reader(context.Background())
		if err == nil && kind != websocket.MessageBinary {
			err = errors.New("the daemon sent text")
		}
		if err != nil { // also io.EOF: here it is the end of the connection, below that of a message
			k.fail(err)
			return
		}
		for err == nil {
			if len(*b) == cap(*b) { // for all of a large frame at once
				b = frame.Grow(b, max(4096, 2*cap(*b), frame.Announced(*b)+len("the end")))
			}
			var n int
			// In parts: each is a sign of life.
			n, err = r.Read((*b)[len(*b):min(cap(*b), len(*b)+readPart)])
			*b = (*b)[:len(*b)+n]
			k.heard.Store(int64(time.Since(k.born)))
		}
		if errors.Is(err, io.EOF) {
			err = k.take(*b)
		}
		if err != nil {
			k.fail(err)
			return
		}
		if *b = (*b)[:0]; cap(*b) > 2*frame.Flush { // one large answer is not to be paid for ever
			frame.Free(b)
			b = frame.Buffer()
		}
	}
}

func (k *conn) take(batch []byte) error {
	for len(batch) > 0 {
		f, rest, err := frame.Next(batch)
		if err != nil {
			return err
		}
		batch = rest
		if f.Kind == frame.Pong {
			continue
		}
		if err := k.answered(f); err != nil {
			return err
		}
	}
	return nil
}

// answered gives a frame to the request that it answers. The request is taken
// out of the pending ones meanwhile, so that a failure does not end it too.
func (k *conn) answered(f frame.Frame) error {
	k.mu.Lock()
	p := k.pending[f.ID]
	delete(k.pending, f.ID)
	if p != nil {
		k.arrived = max(k.arrived, p.number)
	}
	k.mu.Unlock()
	if p == nil {
		return fmt.Errorf("the daemon answered request %d with %v, which was not asked", f.ID, f.Kind)
	}
	final, err := p.parse(f)
	k.mu.Lock()
	if err == nil {
		err = k.failed
	}
	if err == nil && !final {
		k.pending[f.ID] = p
		k.mu.Unlock()
		return nil
	}
	if err != nil {
		p.err = &lostError{err: err, sent: true}
	}
	abandoned, waits, bytes, inLine := p.abandoned, p.waits, p.bytes, p.inLine()
	if !abandoned {
		p.done <- struct{}{} // from here on it may be another request
	}
	k.mu.Unlock()
	k.free(waits, bytes)
	if err == nil && abandoned && len(p.deliveries) > 0 {
		k.handBack(p.deliveries)
	}
	k.mu.Lock()
	k.over(inLine)
	k.mu.Unlock()
	return err
}

// over counts a request that is over. k.mu is held.
func (k *conn) over(inLine bool) {
	if inLine {
		k.inLine--
	}
	if k.open--; k.open == 0 {
		k.empty.Broadcast()
	}
}

// handBack releases what a receive got whose caller had left. Nobody waits for
// it; if it fails, the deliveries come back when their leases end.
func (k *conn) handBack(ds []queuedriver.Delivery) {
	ss := make([]queuedriver.Settlement, len(ds))
	for i := range ds {
		ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Release}
	}
	b := frame.Buffer()
	defer frame.Free(b)
	*b = frame.AppendSettle(*b, ss)
	p := &pending{kind: frame.Settle, n: len(ss), abandoned: true}
	if !k.calls.TryAcquire(1) { // the reader must not wait for itself
		return
	}
	p.done = make(chan struct{}, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		k.calls.Release(1)
		return
	}
	k.last++
	k.pending[k.last] = p
	k.open++
	p.number, _ = k.out.Send(k.last, *b, len(ss), nil) // if it fails, so does all that is pending
}

// watch pings, and ends a session whose other end shows no sign of life.
func (k *conn) watch() {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var sent, until time.Duration // when the last ping was sent, and when its time is over; 0: answered
	for id := uint64(1); ; {
		select {
		case <-k.closed:
			return
		case <-t.C:
		}
		now, heard := time.Since(k.born), time.Duration(k.heard.Load())
		if until != 0 && heard >= sent {
			until = 0
		}
		if until != 0 && now >= until {
			k.fail(fmt.Errorf("the daemon has shown no sign of life for %v", now-heard))
			return
		}
		every := min(frame.PingIdle, k.hello.SilenceIdle/3)
		k.mu.Lock()
		if k.open > 0 {
			every = min(frame.PingBusy, k.hello.SilenceBusy/3)
		}
		k.mu.Unlock()
		if until == 0 && (now-heard >= every || now-sent >= every) {
			b := frame.AppendPing(nil)
			if _, err := k.out.Send(id, b, 0, nil); err != nil {
				continue
			}
			id++
			sent = now
			until = now + frame.PingWait + time.Duration(k.out.Bytes())*time.Second/slowest
		}
	}
}
