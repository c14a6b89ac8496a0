package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// forever is the wait of a call that only its caller ends.
const forever = -1

// exchange is one call on its way over the session. It ends with ctx, when its
// time is over, or when its caller is closed; a context of all three is made
// only where something has to be waited for before it is sent.
type exchange struct {
	s     *caller
	ctx   context.Context
	until *time.Timer // used if at is set
	at    time.Time   // when until fires; zero: its time is never over
	conn  *conn
	own   pending // its request
	left  bool    // a request of it was abandoned, and may still be answered
}

// exchanges that are over, with their timers and channels.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// ask begins a request, of which an exchange has one at a time.
func (x *exchange) ask(kind frame.Kind, waits bool, n int) *pending {
	if x.left {
		return &pending{kind: kind, waits: waits, n: n}
	}
	x.own = pending{kind: kind, waits: waits, n: n, done: x.own.done}
	return &x.own
}

// over begins a call over the session that sends about n bytes and whose answer
// may take wait longer than a call's timeout. It returns nil if the call has to
// go over HTTP. The caller must end what it gets.
func (s *caller) over(ctx context.Context, wait time.Duration, n int) (*exchange, error) {
	if s.c.link == nil || s.c.link.mode == SessionOff {
		return nil, nil
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		s.calls.Done()
		return nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	x := exchanges.Get().(*exchange) //nolint:forcetypeassert // the pool has nothing else
	x.s, x.ctx = s, ctx
	if wait != forever {
		x.start(wait + s.c.allowance(n))
	}
	k, err := x.connect(wait != 0 || n != 0)
	switch {
	case err != nil:
		err = x.lost(&lostError{err: err}, false)
		x.end()
		return nil, err
	case k == nil:
		x.end()
		return nil, nil
	}
	x.conn = k
	return x, nil
}

// start has the time of the exchange begin.
func (x *exchange) start(all time.Duration) {
	x.at = time.Now().Add(all)
	if x.until == nil {
		x.until = time.NewTimer(all)
	} else {
		x.until.Reset(all)
	}
}

// connect returns the session, which it may have to wait for: for no longer
// than a call may take that neither waits nor is large, if brief.
func (x *exchange) connect(brief bool) (*conn, error) {
	if k := x.s.c.link.there(); k != nil {
		return k, nil
	}
	ctx, cancel := x.bounded()
	defer cancel()
	if brief {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, x.s.c.timeout)
		defer done()
	}
	return x.s.c.link.get(ctx)
}

// bounded returns a context that ends when the exchange does.
func (x *exchange) bounded() (context.Context, context.CancelFunc) {
	var ctx context.Context
	var cancel context.CancelFunc
	if x.at.IsZero() {
		ctx, cancel = context.WithCancel(x.ctx)
	} else {
		ctx, cancel = context.WithDeadline(x.ctx, x.at)
	}
	stop := context.AfterFunc(x.s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// acquire takes n of a limit of the daemon.
func (x *exchange) acquire(limit *semaphore.Weighted, n int64) error {
	if limit.TryAcquire(n) {
		return nil
	}
	ctx, cancel := x.bounded()
	defer cancel()
	return limit.Acquire(ctx, n)
}

// late is a channel that has something when the time of the exchange is over.
func (x *exchange) late() <-chan time.Time {
	if x.at.IsZero() {
		return nil
	}
	return x.until.C
}

// end ends the exchange, which must not be used any more, nor what it asked.
func (x *exchange) end() {
	if x.until != nil {
		x.until.Stop()
	}
	s := x.s
	if !x.left {
		*x = exchange{until: x.until, own: pending{done: x.own.done}}
		exchanges.Put(x)
	}
	s.calls.Done()
}

// do sends a request and waits for the answer. reads says that it changes
// nothing. b is not the caller's any more.
func (x *exchange) do(p *pending, b *[]byte, items int, reads bool) error {
	err := x.conn.do(x, p, b, items)
	if err == nil {
		return nil
	}
	return x.lost(err, reads)
}

// lost says what a missing answer means to the caller.
func (x *exchange) lost(err error, reads bool) error {
	var l *lostError
	if !errors.As(err, &l) {
		return err
	}
	return x.s.lost(x.ctx, request{reads: reads}, l.sent, l.err)
}

func (c *lockConn) sessionAcquire(x *exchange, r *lockdriver.Request, wait bool) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	defer x.end()
	if r.Ticket != nil && !utf8.ValidString(r.Ticket.Opaque) {
		return nil, nil, lease.Invalidf("ticket", "must be valid UTF-8")
	}
	b := frame.Buffer()
	*b = frame.AppendAcquire(*b, r, wait)
	p := x.ask(frame.Acquire, wait, 0)
	err := x.do(p, b, 0, false)
	var held *problemError
	switch {
	case err == nil && p.grant != nil && len(p.grant.More) != len(r.More):
		return nil, nil, fmt.Errorf("%w: the answer has %d of %d names", lease.ErrUnknown, 1+len(p.grant.More), r.Names())
	case err == nil && p.grant != nil:
		return p.grant, nil, nil
	case err == nil:
		return nil, p.ticket, nil
	case wait && errors.As(err, &held) && held.problem.Code == wire.CodeHeld: // the daemon is shutting down
		return nil, &lockdriver.Ticket{Opaque: held.problem.Ticket, Position: held.problem.Position}, nil
	}
	return nil, nil, err
}

func (c *lockConn) sessionLeases(x *exchange, kind frame.Kind, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	defer x.end()
	for i := range refs {
		if validRef("", &refs[i]) != nil {
			return nil, validRef(wire.Indexed("leases", i)+".", &refs[i]) // to say which
		}
	}
	b := frame.Buffer()
	if kind == frame.Renew {
		*b = frame.AppendRenew(*b, refs)
	} else {
		*b = frame.AppendRelease(*b, refs)
	}
	p := x.ask(kind, false, len(refs))
	if err := x.do(p, b, len(refs), false); err != nil {
		return nil, err
	}
	return p.outcomes, nil
}

func validRef(at string, r *lockdriver.Ref) error {
	if err := lockdriver.ValidateName(at+"name", r.Name); err != nil {
		return err
	}
	return lockdriver.ValidateHolder(at+"holder", r.Holder)
}

// sessionPublish sends a batch, as several requests if it is too large for one.
func (c *queueConn) sessionPublish(x *exchange, ps []queuedriver.Publishing) ([]queuedriver.Receipt, error) {
	defer x.end()
	if err := queuedriver.ValidateBatch(ps); err != nil {
		return nil, err
	}
	var receipts []queuedriver.Receipt
	for first := true; len(ps) > 0; first = false {
		n, size, items := 0, 0, 0
		for n < len(ps) {
			s, i := frame.PublishingCost(&ps[n])
			if n > 0 && (size+s > maxSessionBody || items+i > x.conn.hello.MaxItems) {
				break
			}
			size += s
			items += i
			n++
		}
		b := frame.BufferFor(size)
		*b = frame.AppendPublish(*b, ps[:n])
		p := x.ask(frame.Publish, false, n)
		err := x.do(p, b, items, false)
		switch {
		case err == nil && receipts == nil:
			receipts = p.receipts
		case err == nil:
			receipts = append(receipts, p.receipts...)
		case first && n == len(ps):
			return nil, err
		default:
			for range n {
				receipts = append(receipts, queuedriver.Receipt{Err: err})
			}
		}
		ps = ps[n:]
	}
	return receipts, nil
}

func (c *queueConn) sessionSettle(x *exchange, ss []queuedriver.Settlement) ([]queuedriver.Outcome, error) {
	defer x.end()
	b := frame.Buffer()
	*b = frame.AppendSettle(*b, ss)
	p := x.ask(frame.Settle, false, len(ss))
	if err := x.do(p, b, len(ss), false); err != nil {
		return nil, err
	}
	return p.settled, nil
}

// sessionReceive is one receive. A caller that leaves is let go at once; what
// the daemon sends all the same is handed back by the session.
func (c *queueConn) sessionReceive(ctx context.Context, x *exchange, r *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	defer x.end()
	b := frame.Buffer()
	*b = frame.AppendReceive(*b, r, false)
	p := x.ask(frame.Receive, true, 0)
	err := x.do(p, b, 0, false)
	if err == nil {
		return p.deliveries, nil
	}
	if ctx.Err() != nil && !errors.Is(err, lease.ErrClosed) {
		return nil, ctx.Err() // nothing stays leased, so nothing is unknown
	}
	return nil, err
}

// sessionCall is a call of the HTTP interface.
func (s *caller) sessionCall(x *exchange, r request, body []byte, out any) error {
	defer x.end()
	q := frame.Request{Method: r.method, Path: r.path, Query: r.query.Encode(), Body: body}
	if body != nil {
		q.Media = "application/json"
	}
	b := frame.Buffer()
	*b = frame.AppendCall(*b, &q)
	p := x.ask(frame.Call, false, 0)
	if err := x.do(p, b, 0, r.reads); err != nil {
		return err
	}
	return s.answer(x.ctx, r, p.reply.Status, p.reply.Media, p.reply.Body, out)
}
