package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
)

// batch is one message of a client. Its memory is counted until the answers to
// all requests in it are written, and used again then.
type batch struct {
	ss       *session
	received time.Time
	buf      *[]byte
	charged  int64        // of Server.buffered
	users    atomic.Int32 // requests under way, and the reader
	pinged   bool
}

const (
	// readPart is how much of a message is read at a time, between which its
	// deadline is looked at.
	readPart = 256 << 10
	// trusted is for how many times of what has come memory is taken for a
	// frame that says that it is longer.
	trusted = 8
)

// read reads the whole message.
func (b *batch) read(r io.Reader) error {
	b.users.Store(1)
	b.buf = frame.Buffer()
	buf := *b.buf
	s := b.ss.s
	for {
		if len(buf) == cap(buf) {
			// For all of a large frame, once a part of that has come.
			size := max(4096, 2*cap(buf), min(frame.Announced(buf)+len("the end"), trusted*len(buf)))
			before := cap(buf)
			b.buf = frame.Grow(b.buf, size)
			buf = *b.buf
			more := int64(cap(buf) - before)
			b.charged += more
			if s.buffered.Add(more) > s.cfg.MaxBuffered {
				return &violation{websocket.StatusTryAgainLater, tooMuchBuffered(s)}
			}
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), len(buf)+readPart)])
		buf = buf[:len(buf)+n]
		*b.buf = buf
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(buf) >= frame.Flush || len(buf) == cap(buf) {
			// What trickles in must not hold its memory for ever.
			_ = b.ss.conn.SetReadDeadline(b.received.Add(s.allowance(s.cfg.BodyTimeout, int64(len(buf)))))
		}
	}
	// A buffer that was there already is counted too.
	if over := int64(len(buf)) - b.charged; over > 0 {
		b.charged += over
		s.buffered.Add(over)
	}
	b.ss.mu.Lock()
	b.ss.held += int64(len(buf))
	b.ss.mu.Unlock()
	s.metrics.sessionBatches[incoming].Inc()
	s.metrics.sessionBytes[incoming].Add(float64(len(buf)))
	return nil
}

// leave is called by each user of the batch once.
func (b *batch) leave() {
	if b.users.Add(-1) > 0 {
		return
	}
	b.ss.s.buffered.Add(-b.charged)
	b.ss.mu.Lock()
	b.ss.held -= int64(len(*b.buf))
	b.ss.settled.Broadcast()
	b.ss.mu.Unlock()
	frame.Free(b.buf)
}

// request is one request of a session, until its answer is written.
type request struct {
	ss       *session
	b        *batch // whose memory it needs; nil: none
	received time.Time
	id       uint64
	kind     frame.Kind
	waits    bool  // counts as one that waits
	kept     int64 // bytes of its own, of Server.buffered
	n        int   // how many elements of its group are its own
	done     bool  // it has its answer
	now      bool  // to answer it must not wait for the client; a flush comes
}

// begin counts a request, which must be within the limits.
func (ss *session) begin(r *request, g *gathered) error {
	if r.waits {
		if ss.waits.Load() >= frame.MaxWaits {
			return violated("unanswered requests that wait must be at most %d", frame.MaxWaits)
		}
		ss.waits.Add(1)
	} else {
		if ss.calls.Load() >= frame.MaxCalls {
			return violated("unanswered requests must be at most %d", frame.MaxCalls)
		}
		ss.calls.Add(1)
	}
	g.begun = append(g.begun, r)
	if r.waits || r.kind == frame.Call {
		r.b = nil // it may take long, and has copied what it needs
	} else {
		r.b.users.Add(1)
	}
	ss.mu.Lock()
	ss.open++
	ss.unsent++
	ss.mu.Unlock()
	return nil
}

// keep counts bytes that the request has copied out of its batch.
func (r *request) keep(n int64) error {
	ss := r.ss
	r.kept = n
	ss.mu.Lock()
	ss.held += n
	ss.mu.Unlock()
	if ss.s.buffered.Add(n) > ss.s.cfg.MaxBuffered {
		return wire.NewProblem(wire.CodeLimit, "", tooMuchBuffered(ss.s))
	}
	return nil
}

func tooMuchBuffered(s *Server) string {
	return fmt.Sprintf("requests under way must have at most %d bytes together; try again later", s.cfg.MaxBuffered)
}

// newCall makes the call that an acquire or a receive goes through.
func (r *request) newCall() *call {
	return &call{s: r.ss.s, session: r.ss, r: r.ss.r, received: r.received, id: "session " + r.ss.r.RemoteAddr}
}

// send answers the request with an encoded frame, which is the last one about
// it. It reports whether there is a client to be answered. Past maxUnsent it
// waits, unless the request says now.
func (r *request) send(b *[]byte, items int, err error) bool { return r.sendOf(b, items, err, r) }

// sendOf is send, with another owner of the frame, which tells r.
func (r *request) sendOf(b *[]byte, items int, err error, owner frame.Owner) bool {
	ss := r.ss
	r.done = true
	if !r.now {
		_ = ss.out.Wait(maxUnsent) // Send says the same
	}
	// Counted before it leaves: the client may have the next one on its way
	// the moment that it gets the answer.
	if r.waits {
		ss.waits.Add(-1)
	} else {
		ss.calls.Add(-1)
	}
	ss.mu.Lock()
	if ss.open--; ss.open == 0 && !ss.inside {
		ss.listen()
	}
	delete(ss.stops, r.id)
	ss.settled.Broadcast()
	ss.mu.Unlock()
	ss.s.metrics.answered(r.kind, err, r.received)
	var lost error
	if r.now {
		lost = ss.gather(r.id, b, items, owner)
	} else {
		_, lost = ss.out.Give(r.id, b, items, owner)
	}
	if lost != nil {
		owner.Written(false)
		return false
	}
	return true
}

// gather puts a frame into the outbox that leaves with the next flush: so what a
// driver tells at once leaves together.
func (ss *session) gather(id uint64, b *[]byte, items int, owner frame.Owner) error {
	_, idle, err := ss.out.AddGiven(id, b, items, owner)
	if idle {
		ss.due.Store(true)
	}
	return err
}

// flush lets leave what was gathered.
func (ss *session) flush() {
	if ss.due.Load() && ss.due.Swap(false) {
		ss.out.Start()
	}
}

// Written implements frame.Owner: the answer has left, or will never.
func (r *request) Written(bool) {
	ss := r.ss
	ss.mu.Lock()
	ss.unsent--
	ss.held -= r.kept
	ss.settled.Broadcast()
	ss.mu.Unlock()
	ss.s.buffered.Add(-r.kept)
	if r.b != nil {
		r.b.leave()
	}
}

// fail answers with a problem.
func (r *request) fail(err error) {
	p := wire.ProblemOf(err)
	if p.Code == wire.CodeInternal {
		r.ss.s.cfg.Logger.Error("request of a session failed", "kind", r.kind.String(), "remote", r.ss.r.RemoteAddr, "error", err)
	}
	b := frame.Buffer()
	*b = frame.AppendProblem(*b, p)
	r.ss.s.metrics.counted(frame.Problem)
	r.send(b, 0, p)
}

// gathered is what one batch asks for, sorted by what can be done together.
// Nothing of a batch is begun before all of it has been read.
type gathered struct {
	releases, renewals []*leases
	settles            []*settles
	publishes          []*posted
	rest               []task // in the order of the frames
	begun              []*request
	refused            []refused
	items              int
}

// task is something that a batch asks for.
type task interface{ run() error }

// taskFunc is a task without more to it.
type taskFunc func() error

func (f taskFunc) run() error { return f() }

// keepGathered is for how many frames a session keeps the memory of a batch.
const keepGathered = 128

// reset makes it ready for the next batch.
func (g *gathered) reset() {
	if max(cap(g.begun), cap(g.rest)) > keepGathered {
		*g = gathered{}
		return
	}
	clear(g.begun)
	clear(g.rest)
	clear(g.releases)
	*g = gathered{begun: g.begun[:0], rest: g.rest[:0], releases: g.releases[:0]}
}

type refused struct {
	r   *request
	err error
}

// refuse notes that a request is to be answered with a problem. It returns nil:
// the session goes on.
func (g *gathered) refuse(r *request, err error) error {
	g.refused = append(g.refused, refused{r, err})
	return nil
}

// take begins everything that a batch asks for.
func (ss *session) take(b *batch) error {
	g := &ss.gathered
	defer g.reset()
	if err := ss.sort(b, g); err != nil {
		for _, r := range g.begun {
			r.Written(false)
		}
		return err
	}
	for _, x := range g.refused {
		x.r.fail(x.err)
	}
	ss.post(g.publishes)
	for _, l := range g.releases {
		ss.release(l)
	}
	for _, l := range g.renewals {
		ss.work.Go(func() { ss.renew(l) })
	}
	for _, l := range g.settles {
		ss.work.Go(func() { ss.settle(l) })
	}
	var failed error
	for _, t := range g.rest {
		if err := t.run(); failed == nil {
			failed = err
		}
	}
	return failed
}

// sort reads the frames of a batch.
func (ss *session) sort(b *batch, g *gathered) error {
	data := *b.buf
	for n := 0; len(data) > 0; n++ {
		if n == frame.MaxFrames {
			return violated("a batch must have at most %d frames", frame.MaxFrames)
		}
		f, rest, err := frame.Next(data)
		if err == nil {
			err = ss.frame(b, f, g)
		}
		if errors.Is(err, frame.ErrMalformed) {
			err = &violation{websocket.StatusInvalidFramePayloadData, err.Error()}
		}
		if err != nil {
			return err
		}
		data = rest
	}
	return nil
}

// frame reads one frame.
func (ss *session) frame(b *batch, f frame.Frame, g *gathered) error {
	ss.s.metrics.counted(f.Kind)
	switch {
	case !f.Kind.FromClient():
		return violated("a client must not send %v", f.Kind)
	case !f.Kind.Request():
		b.pinged = b.pinged || f.Kind == frame.Ping
		return ss.control(f, g)
	}
	if f.ID <= ss.last {
		return violated("id %d of a %v is not larger than that of the request before it, %d", f.ID, f.Kind, ss.last)
	}
	ss.last = f.ID
	var acquire *acquiring
	var r *request
	if f.Kind == frame.Acquire {
		acquire = &acquiring{}
		r = &acquire.request
	} else {
		r = &request{}
	}
	r.ss, r.b, r.received, r.id, r.kind = ss, b, b.received, f.ID, f.Kind
	if err := ss.refuse(f.Kind); err != nil {
		g.refused = append(g.refused, refused{r, err})
		return ss.begin(r, g)
	}
	switch f.Kind { //nolint:exhaustive // the others have been sorted out above
	case frame.Acquire:
		return ss.addAcquire(acquire, f.Body, g)
	case frame.Renew, frame.Release:
		return ss.addLeases(r, f.Body, g)
	case frame.Publish:
		return ss.addPublish(r, f.Body, g)
	case frame.Receive:
		return ss.addReceive(r, f.Body, g)
	case frame.Settle:
		return ss.addSettle(r, f.Body, g)
	}
	return ss.addCall(r, f.Body, g)
}

// refuse says why no request of the kind is served, if so.
func (ss *session) refuse(k frame.Kind) error {
	switch {
	case ss.s.draining():
		return wire.NewProblem(wire.CodeUnavailable, "", "the daemon is shutting down")
	case k <= frame.Release && ss.s.cfg.Locks == nil:
		return wire.NewProblem(wire.CodeUnsupported, "", "this daemon serves no locks")
	case k > frame.Release && k <= frame.Settle && ss.s.cfg.Queues == nil:
		return wire.NewProblem(wire.CodeUnsupported, "", "this daemon serves no queues")
	}
	return nil
}

// control is a frame that is not answered.
func (ss *session) control(f frame.Frame, g *gathered) error {
	if f.Kind == frame.Ping {
		if err := frame.ParseEmpty(f); err != nil {
			return err
		}
		b := frame.Buffer()
		defer frame.Free(b)
		*b = frame.AppendPong(*b)
		ss.s.metrics.counted(frame.Pong)
		_, _ = ss.out.Send(f.ID, *b, 0, nil) // a session that has ended is noticed by its reader
		return nil
	}
	if f.ID == 0 || f.ID > ss.last {
		return violated("%v of a request that was not made, %d", f.Kind, f.ID)
	}
	if f.Kind == frame.Cancel {
		g.rest = append(g.rest, taskFunc(func() error { ss.stopped(f.ID).end(); return nil }))
		return frame.ParseEmpty(f)
	}
	n, err := frame.ParseCredit(f.Body)
	g.rest = append(g.rest, taskFunc(func() error { return ss.stopped(f.ID).more(n) }))
	return err
}

// stopped returns what a cancel or a credit is for: nil if the request has been
// answered, or is none of those that take them.
func (ss *session) stopped(id uint64) *stop {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.stops[id]
}

func (st *stop) end() {
	if st != nil {
		st.cancel()
	}
}

func (st *stop) more(n int) error {
	if st == nil || st.credit == nil {
		return nil
	}
	return st.credit(n)
}

// stoppable makes a context that a cancel of the request ends.
func (r *request) stoppable(parent context.Context, credit func(n int) error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	r.stopBy(&stop{cancel: cancel, credit: credit})
	return ctx, cancel
}

// stopBy says what a cancel of the request does.
func (r *request) stopBy(st *stop) {
	ss := r.ss
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.stops == nil {
		ss.stops = map[uint64]*stop{}
	}
	ss.stops[r.id] = st
}

// rescue answers for a driver that panicked; the daemon goes on.
func (ss *session) rescue(rs ...*request) {
	p := recover()
	if p == nil {
		return
	}
	ss.s.logPanic(p, "remote", ss.r.RemoteAddr)
	for _, r := range rs {
		if r.done {
			continue
		}
		r.fail(wire.NewProblem(wire.CodeInternal, "", "the daemon failed on this request; its log has more"))
	}
}
