package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// queueConn returns the session's own connection to the queues, if the driver
// has such: consumers leave with it, and exclusive queues are its.
func (ss *session) queueConn() queuedriver.Conn {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.queues == nil {
		ss.queues = ss.s.cfg.Queues
		if f, ok := ss.queues.(queuedriver.Forker); ok {
			ss.queues = f.Fork()
		}
	}
	return ss.queues
}

// queues returns the connection to the queues that a request is for.
func (c *call) queues() queuedriver.Conn {
	if c.session != nil {
		return c.session.queueConn()
	}
	return c.s.cfg.Queues
}

// postBytes bounds the bodies that one driver call gets from several publishes
// of a session.
const postBytes = 8 << 20

// posted is one publish.
type posted struct {
	r     *request
	ps    []queuedriver.Publishing
	bytes int
}

func (ss *session) addPublish(r *request, body []byte, g *gathered) error {
	if err := ss.begin(r, g); err != nil {
		return err
	}
	ps, err := frame.ParsePublish(body, nil, &g.items)
	if err != nil {
		return err
	}
	if len(ps) == 0 {
		err = lease.Invalidf("messages", "must be 1 to %d, are none", queuedriver.MaxBatch)
	} else {
		err = queuedriver.ValidateBatch(ps)
	}
	if err != nil {
		return g.refuse(r, err)
	}
	p := &posted{r: r, ps: ps}
	for i := range ps {
		p.bytes += len(ps[i].Message.Body)
	}
	g.publishes = append(g.publishes, p)
	return nil
}

// post puts publishes into the lane, where one driver call at a time keeps
// them in order: whatever has come while one was under way is the next.
func (ss *session) post(ps []*posted) {
	if len(ps) == 0 {
		return
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.lane = append(ss.lane, ps...)
	if !ss.posting {
		ss.posting = true
		ss.work.Go(ss.postAll)
	}
}

func (ss *session) postAll() {
	for {
		ss.mu.Lock()
		n, messages, bytes := 0, 0, 0
		for n < len(ss.lane) {
			p := ss.lane[n]
			if messages += len(p.ps); n > 0 && (messages > queuedriver.MaxBatch || bytes+p.bytes > postBytes) {
				break
			}
			bytes += p.bytes
			n++
		}
		group := ss.lane[:n:n]
		if ss.lane = ss.lane[n:]; len(ss.lane) == 0 {
			ss.lane = nil
		}
		if n == 0 {
			ss.posting = false
		}
		ss.mu.Unlock()
		if n == 0 {
			return
		}
		ss.publish(group)
	}
}

func (ss *session) publish(group []*posted) {
	rs := make([]*request, len(group))
	var ps []queuedriver.Publishing
	for i, p := range group {
		rs[i] = p.r
		ps = append(ps, p.ps...)
	}
	defer ss.rescue(rs...)
	receipts, err := ss.s.cfg.Queues.Publish(ss.ctx, ps)
	if err == nil && len(receipts) != len(ps) {
		err = fmt.Errorf("the driver returned %d receipts for %d messages: %w", len(receipts), len(ps), lease.ErrUnknown)
	}
	if err == nil {
		ss.s.metrics.publishedAll(receipts)
	}
	for i, r := range rs {
		if err != nil {
			r.fail(err)
			continue
		}
		n := len(group[i].ps)
		b := frame.Buffer()
		*b = frame.AppendReceipts(*b, receipts[:n])
		ss.s.metrics.counted(frame.Receipts)
		receipts = receipts[n:]
		r.send(b, n, nil)
	}
}

// settles are settlements of one batch that one driver call does.
type settles struct {
	requests []*request
	ss       []queuedriver.Settlement
}

func (ss *session) addSettle(r *request, body []byte, g *gathered) error {
	if err := ss.begin(r, g); err != nil {
		return err
	}
	if len(g.settles) == 0 {
		g.settles = append(g.settles, &settles{})
	}
	l := g.settles[len(g.settles)-1]
	before := len(l.ss)
	all, err := frame.ParseSettle(body, l.ss, &g.items)
	if err != nil {
		return err
	}
	own := all[before:]
	if len(own) == 0 {
		err = lease.Invalidf("settlements", "must be 1 to %d, are none", queuedriver.MaxBatch)
	} else {
		caps := ss.s.cfg.Queues.Caps()
		err = queuedriver.ValidateSettlements(own, &caps)
	}
	if err != nil {
		return g.refuse(r, err)
	}
	r.n = len(own)
	if len(all) > queuedriver.MaxBatch {
		g.settles = append(g.settles, &settles{requests: []*request{r}, ss: own})
		return nil
	}
	l.ss = all
	l.requests = append(l.requests, r)
	return nil
}

func (ss *session) settle(l *settles) {
	if len(l.requests) == 0 {
		return
	}
	defer ss.rescue(l.requests...)
	outcomes, err := ss.s.cfg.Queues.Settle(ss.ctx, l.ss)
	if err == nil && len(outcomes) != len(l.ss) {
		err = fmt.Errorf("the driver returned %d outcomes for %d settlements: %w", len(outcomes), len(l.ss), lease.ErrUnknown)
	}
	if err == nil {
		for i := range outcomes {
			ss.s.metrics.settled(wire.Verbs[l.ss[i].Verb-1], outcomes[i].Err)
		}
	}
	for _, r := range l.requests {
		if err != nil {
			r.fail(err)
			continue
		}
		b := frame.Buffer()
		*b = frame.AppendSettled(*b, outcomes[:r.n])
		ss.s.metrics.counted(frame.Settled)
		outcomes = outcomes[r.n:]
		r.send(b, r.n, nil)
	}
}

// credit is how many messages a receive may still push.
type credit struct {
	mu   sync.Mutex
	n    int
	more chan struct{} // a token: there is more
}

func (c *credit) add(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > frame.MaxCredit-c.n {
		return violated("credit must be at most %d", frame.MaxCredit)
	}
	c.n += n
	select {
	case c.more <- struct{}{}:
	default:
	}
	return nil
}

// wait returns how much there is, once there is some; 0 when ctx ends.
func (c *credit) wait(ctx context.Context) int {
	for {
		c.mu.Lock()
		n := c.n
		c.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return 0
		}
	}
}

func (ss *session) addReceive(r *request, body []byte, g *gathered) error {
	req, keep, err := frame.ParseReceive(body)
	if err != nil {
		return err
	}
	r.waits = true
	if err := ss.begin(r, g); err != nil {
		return err
	}
	cr := &credit{more: make(chan struct{}, 1)}
	if keep {
		if err := cr.add(req.Max); err != nil {
			return err
		}
		req.Max, req.Wait = 1, queuedriver.MaxWait
	}
	caps := ss.s.cfg.Queues.Caps()
	if err := req.Validate(&caps); err != nil {
		return g.refuse(r, err)
	}
	bulk := min(req.MaxBytes, bulkBytes)
	req.MaxBytes = min(req.MaxBytes, pollBytes)
	key := consumerKey(req.Queue, req.Consumer)
	g.rest = append(g.rest, taskFunc(func() error {
		var add func(int) error
		if keep {
			add = cr.add
		}
		ctx, cancel := r.stoppable(ss.ctx, add)
		ctx, leave := ss.s.consumers.enter(ctx, key)
		ss.work.Go(func() {
			defer cancel()
			defer leave()
			defer ss.rescue(r)
			if keep {
				r.finish(r.consume(ctx, req, cr))
				return
			}
			ds, err := r.deliver(ctx, req, bulk, false)
			if err != nil || len(ds) == 0 {
				r.finish(err)
			}
		})
		return nil
	}))
	return nil
}

// consume pushes deliveries as long as there is credit, until it is cancelled.
// All the while it counts as one that waits.
func (r *request) consume(ctx context.Context, req *queuedriver.ReceiveRequest, cr *credit) error {
	waiting, done, err := r.newCall().wait(untilCancelled)
	if err != nil {
		return err
	}
	defer done()
	waiting, cancel := context.WithCancel(waiting)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	r.ss.s.metrics.receiveWaiters.Inc()
	defer r.ss.s.metrics.receiveWaiters.Dec()
	for {
		n := cr.wait(waiting)
		if waiting.Err() != nil {
			return nil
		}
		req.Max = min(n, queuedriver.MaxReceive)
		ds, err := r.deliver(waiting, req, 0, true)
		if err != nil {
			return err
		}
		cr.mu.Lock()
		cr.n -= len(ds)
		cr.mu.Unlock()
	}
}

// bulkBytes is how much a receive of large messages gets at once. With a round
// trip for each of them the session would stand still for most of the time.
const bulkBytes = 4 << 20

// takeBulk takes what is there now, if there is room for the answer.
func (c *call) takeBulk(ctx context.Context, req *queuedriver.ReceiveRequest, bulk int) ([]queuedriver.Delivery, error) {
	room := min(int64(max(bulk, queuedriver.MaxBody)), c.s.cfg.MaxAnswers)
	if !c.s.answers.TryAcquire(room) {
		return nil, nil
	}
	c.answer += room
	first := *req
	first.Wait, first.MaxBytes = 0, bulk
	ds, err := c.take(ctx, &first)
	c.keep(bodies(ds))
	return ds, err
}

// finish ends a receive without deliveries.
func (r *request) finish(err error) {
	if err != nil {
		r.fail(err)
		return
	}
	b := frame.Buffer()
	*b = frame.AppendDone(*b)
	r.ss.s.metrics.counted(frame.Done)
	r.send(b, 0, nil)
}

// deliver receives once and pushes what it got. With more the receive goes on
// behind it; otherwise deliveries are its answer, and if the last ones on the
// session were large, up to bulk bytes of what is there already are. Waited
// counts from the receipt of the receive.
func (r *request) deliver(ctx context.Context, req *queuedriver.ReceiveRequest, bulk int, more bool) ([]queuedriver.Delivery, error) {
	c := r.newCall()
	var ds []queuedriver.Delivery
	var err error
	if bulk > pollBytes && r.ss.bulky.Load() {
		ds, err = c.takeBulk(ctx, req, bulk)
	}
	reserved := len(ds) > 0
	switch {
	case err != nil || reserved:
	case req.Wait > 0 && !more: // with more it has been counted already
		ds, err = c.poll(ctx, req)
	default:
		ds, err = c.take(ctx, req)
	}
	if err != nil || len(ds) == 0 {
		return nil, err
	}
	if !reserved {
		err = c.reserve(ctx, bodies(ds))
	}
	if err != nil || ctx.Err() != nil {
		c.s.answers.Release(c.answer)
		c.handBack(ds)
		return nil, err
	}
	r.ss.bulky.Store(bodies(ds) >= pollBytes)
	c.s.metrics.counted(frame.Deliveries)
	c.s.metrics.received.Add(float64(len(ds)))
	b := frame.BufferFor(frame.DeliveriesSize(ds))
	*b = frame.AppendDeliveries(*b, ds, more)
	d := &delivered{ss: r.ss, c: c, ds: ds}
	if !more {
		d.last = r
		r.sendOf(b, len(ds), nil, d)
		return ds, nil
	}
	_ = r.ss.out.Wait(maxUnsent) // Give says the same
	if _, err := r.ss.out.Give(r.id, b, len(ds), d); err != nil {
		d.Written(false)
		return nil, goneError{err}
	}
	return ds, nil
}

// delivered are deliveries on their way to the client.
type delivered struct {
	ss   *session
	c    *call
	ds   []queuedriver.Delivery
	last *request // that they answer
}

// Written implements frame.Owner: what the client cannot have got is released.
func (d *delivered) Written(ok bool) {
	d.c.s.answers.Release(d.c.answer)
	if !ok {
		d.ss.work.Go(func() { d.c.handBack(d.ds) })
	}
	if d.last != nil {
		d.last.Written(ok)
	}
}
