package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/lease"
)

// leg is a member's share session with one broker. A session is requests that
// are numbered: one at a time, so settlements wait for a look that is under way.
type leg struct {
	sh     *share
	broker int32
	wake   chan struct{} // a token: there is something to do

	// Of the goroutine that runs it.
	epoch   int32              // of the next request; 0 opens the session
	session map[place][16]byte // that the broker knows to be in it

	// The source's mu guards what follows.
	ops   []*op
	looks []*look
}

// Kinds of acknowledgements, as they are sent.
const (
	kindGap     = 0 // there is no message
	kindAccept  = 1
	kindRelease = 2
	kindReject  = 3
	kindRenew   = 4
)

// op is something to be said about messages of a partition.
type op struct {
	at          place
	topicID     [16]byte
	first, last int64
	kind        int8
	sent        time.Time
	tries       int
	err         error  // valid when it is done
	batch       *opSet // nil: nobody waits
	renewed     *entry // nil, or whose lock it renews
}

// opSet is ops of which somebody waits for all.
type opSet struct {
	left atomic.Int64
	done chan struct{}
}

// end says what became of an op; mu is not held.
func (sh *share) end(o *op, err error) {
	o.err = err
	if o.renewed != nil {
		sh.renewed(o)
	}
	if o.batch != nil && o.batch.left.Add(-1) == 0 {
		close(o.batch.done)
	}
}

// look is a Receive that does not wait: it ends when nothing is left to be read,
// or enough is ready.
type look struct {
	most int
	left int // legs that have not looked yet
	done chan struct{}
}

// Of a session.
const (
	longLook   = 500 * time.Millisecond // at which the broker lets a look wait
	shortLook  = 20 * time.Millisecond  // while settlements may come
	freshLook  = 250 * time.Millisecond // at a partition that may not be loaded yet
	legTrouble = 100 * time.Millisecond
	opTries    = 50   // with legTrouble in between
	mostOps    = 1000 // in one request
	mostFetch  = 500  // messages of one look
)

func newLeg(sh *share, broker int32) *leg {
	return &leg{sh: sh, broker: broker, wake: make(chan struct{}, 1), session: map[place][16]byte{}}
}

// run asks and settles until the source is stopped.
func (l *leg) run() {
	s := l.sh.s
	for s.ctx.Err() == nil {
		s.mu.Lock()
		ops := l.ops[:min(len(l.ops), mostOps)]
		l.ops = l.ops[len(ops):]
		s.mu.Unlock()
		var err error
		if len(ops) > 0 {
			err = l.settle(s.ctx, ops)
		} else if most, wait := l.demand(); most > 0 {
			err = l.fetch(s.ctx, most, wait)
		} else {
			select {
			case <-l.wake:
			case <-s.ctx.Done():
			}
			continue
		}
		if err != nil && s.ctx.Err() == nil {
			s.c.o.Logger.Debug("a share session", "queue", s.spec.Name, "broker", l.broker, "error", err)
			s.c.pass(s.ctx, legTrouble)
		}
	}
}

// demand says how many messages are to be asked for, and how long the broker may
// wait for the first.
func (l *leg) demand() (most int, wait time.Duration) {
	s, sh := l.sh.s, l.sh
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(sh.of(l), func(p *sharePart) bool { return p.assigned }) {
		l.passLooks(func(*look) bool { return true })
		return 0, 0
	}
	if s.size > s.c.o.Buffer {
		l.passLooks(func(*look) bool { return true })
		return 0, 0
	}
	now, have, asked := time.Now(), s.ready.count(), 0
	for w := range s.waiters {
		if left := w.until.Sub(now); left > 0 && !w.gone {
			asked += w.most
			wait = max(wait, left)
		}
	}
	for _, k := range l.looks {
		asked += k.most
	}
	l.passLooks(func(*look) bool { return have >= asked })
	ahead := 0
	for _, n := range sh.ahead {
		ahead += n
	}
	if ahead > asked {
		asked, wait = ahead, longLook
	}
	if most = min(asked-have, mostFetch); most <= 0 {
		return 0, 0
	}
	wait = min(wait, longLook)
	if len(s.held) > 0 {
		wait = min(wait, shortLook)
	}
	if len(l.looks) > 0 {
		switch wait = 0; {
		case l.isFresh():
			wait = freshLook
		case sh.moving > 0: // they come again
			wait = shortLook
		}
	}
	return most, wait
}

// isFresh reports whether the broker may not have loaded a partition yet; mu is
// held.
func (l *leg) isFresh() bool {
	return slices.ContainsFunc(l.sh.of(l), func(p *sharePart) bool {
		f := l.sh.s.feeds[p.topic]
		return p.assigned && p.fresh > 0 && f != nil && p.end > f.begin(p.id)
	})
}

// of returns the partitions of a leg; mu is held.
func (sh *share) of(l *leg) (ps []*sharePart) {
	for _, p := range sh.parts {
		if p.leg == l {
			ps = append(ps, p)
		}
	}
	return ps
}

// passLooks ends looks on this leg; mu is held.
func (l *leg) passLooks(over func(*look) bool) {
	l.looks = slices.DeleteFunc(l.looks, func(k *look) bool {
		if !over(k) {
			return false
		}
		if k.left--; k.left == 0 {
			close(k.done)
		}
		return true
	})
}

// next counts a request that was answered.
func (l *leg) next() {
	if l.epoch++; l.epoch < 0 {
		l.epoch = 1
	}
}

// lost begins a new session with the next request. What was locked may be so
// still, and is asked for.
func (l *leg) lost() {
	l.epoch = 0
	clear(l.session)
	s := l.sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	l.passLooks(func(*look) bool { return true })
	for _, p := range l.sh.of(l) {
		for _, e := range p.entries {
			l.sh.tell(e, kindRenew)
		}
	}
	l.sh.stale = true
	signal(l.sh.stir)
}

// answered judges an answer to a request of the session.
func (l *leg) answered(err error, code int16, message *string) error {
	if err == nil {
		if err = kerr.ErrorForCode(code); err == nil {
			l.next()
			return nil
		}
		if message != nil {
			err = fmt.Errorf("%w: %s", err, *message)
		}
	}
	if l.sh.s.ctx.Err() == nil {
		l.lost()
	}
	return err
}

// fetch asks for messages.
func (l *leg) fetch(ctx context.Context, most int, wait time.Duration) error {
	sh := l.sh
	req := kmsg.NewPtrShareFetchRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = kmsg.StringPtr(sh.group), kmsg.StringPtr(sh.member), l.epoch
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, fetchBytes
	req.MaxRecords, req.BatchSize, req.ShareAcquireMode = int32(most), int32(most), 1
	sh.s.mu.Lock()
	looks := slices.Clone(l.looks)
	session := l.include(req)
	sh.s.mu.Unlock()
	began := time.Now()
	resp, err := req.RequestWith(ctx, l.at())
	if err != nil {
		return l.answered(err, 0, nil)
	}
	if err := l.answered(nil, resp.ErrorCode, resp.ErrorMessage); err != nil {
		return err
	}
	l.session = session
	got, err := sh.take(l, resp, began)
	if !got && err == nil && wait > 0 && time.Since(began) < wait/4 {
		sh.s.c.pass(ctx, shortLook) // it does not let wait: too much is locked
	}
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	fresh := l.isFresh()
	if wait >= freshLook {
		for _, p := range sh.of(l) {
			p.fresh = max(0, p.fresh-1)
		}
	}
	if !got && !fresh && sh.moving == 0 || err != nil {
		l.passLooks(func(k *look) bool { return slices.Contains(looks, k) })
	}
	return err
}

// at is the broker of the session.
func (l *leg) at() kmsg.Requestor { return l.sh.cl.Broker(int(l.broker)) }

// include adds to a request what is not in the session yet, and takes out what
// is not wanted any more; mu is held.
func (l *leg) include(req *kmsg.ShareFetchRequest) map[place][16]byte {
	session := map[place][16]byte{}
	for _, p := range l.sh.of(l) {
		if p.assigned {
			session[p.place] = p.topicID
		}
	}
	for at, id := range session {
		if old, there := l.session[at]; there && old == id {
			continue
		}
		part := kmsg.NewShareFetchRequestTopicPartition()
		part.Partition = at.id
		topic := kmsg.NewShareFetchRequestTopic()
		topic.TopicID, topic.Partitions = id, append(topic.Partitions, part)
		i := slices.IndexFunc(req.Topics, func(t kmsg.ShareFetchRequestTopic) bool { return t.TopicID == id })
		if i < 0 {
			req.Topics = append(req.Topics, topic)
		} else {
			req.Topics[i].Partitions = append(req.Topics[i].Partitions, part)
		}
	}
	for at, id := range l.session {
		if session[at] != id {
			gone := kmsg.NewShareFetchRequestForgottenTopicsData()
			gone.TopicID, gone.Partitions = id, []int32{at.id}
			req.ForgottenTopicsData = append(req.ForgottenTopicsData, gone)
		}
	}
	return session
}

// settle says to the broker what became of messages.
func (l *leg) settle(ctx context.Context, ops []*op) error {
	if l.epoch == 0 { // a session is opened by a look
		if err := l.fetch(ctx, 1, 0); err != nil {
			l.again(ops, err)
			return err
		}
	}
	refused, err := l.send(ctx, ops)
	if err != nil {
		for _, o := range ops {
			l.sh.end(o, fmt.Errorf("%w: %w", lease.ErrUnknown, err))
		}
		return err
	}
	for _, group := range refused {
		l.halve(ctx, group)
	}
	return nil
}

// halve finds out which of the ops of a partition the broker refuses: it does
// all of them or none.
func (l *leg) halve(ctx context.Context, ops []*op) {
	if len(ops) == 1 {
		l.sh.end(ops[0], lease.ErrNotHeld)
		return
	}
	for _, half := range [...][]*op{ops[:len(ops)/2], ops[len(ops)/2:]} {
		refused, err := l.send(ctx, half)
		if err != nil {
			for _, o := range half {
				l.sh.end(o, fmt.Errorf("%w: %w", lease.ErrUnknown, err))
			}
			continue
		}
		for _, group := range refused {
			l.halve(ctx, group)
		}
	}
}

// again tries ops later of which nothing was done.
func (l *leg) again(ops []*op, why error) {
	var left []*op
	for _, o := range ops {
		if o.tries++; o.tries > opTries || l.sh.s.ctx.Err() != nil {
			l.sh.end(o, fmt.Errorf("%w: %w", lease.ErrUnavailable, why))
			continue
		}
		left = append(left, o)
	}
	l.sh.s.mu.Lock()
	defer l.sh.s.mu.Unlock()
	l.ops = append(left, l.ops...)
}

// send sends ops, and ends those that are decided. refused are the others, by
// partition.
func (l *leg) send(ctx context.Context, ops []*op) (refused [][]*op, err error) {
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = kmsg.StringPtr(l.sh.group), kmsg.StringPtr(l.sh.member), l.epoch
	parts := map[place][]*op{}
	now := time.Now()
	for _, o := range ops {
		o.sent = now
		parts[o.at] = append(parts[o.at], o)
		req.IsRenewAck = req.IsRenewAck || o.kind == kindRenew
	}
	ids := map[place][16]byte{}
	for at, group := range parts {
		slices.SortStableFunc(group, func(a, b *op) int { return int(a.first - b.first) })
		ids[at] = group[0].topicID
		topic := kmsg.NewShareAcknowledgeRequestTopic()
		topic.TopicID, topic.Partitions = group[0].topicID, append(topic.Partitions, batches(at.id, group))
		req.Topics = append(req.Topics, topic)
	}
	req.Topics = joined(req.Topics)
	resp, err := req.RequestWith(ctx, l.at())
	if err != nil {
		return nil, l.answered(err, 0, nil)
	}
	if err := l.answered(nil, resp.ErrorCode, resp.ErrorMessage); err != nil {
		return nil, err
	}
	for at, group := range parts {
		code, known := answerOf(resp, ids[at], at.id)
		switch err := kerr.ErrorForCode(code); {
		case !known:
			l.again(group, errors.New("the broker said nothing about it"))
		case err == nil:
			for _, o := range group {
				l.sh.end(o, nil)
			}
		case errors.Is(err, kerr.InvalidRecordState), errors.Is(err, kerr.InvalidRequest):
			refused = append(refused, group)
		case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.FencedLeaderEpoch), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
			l.sh.moved()
			for _, o := range group {
				l.sh.end(o, lease.ErrNotHeld) // locks end with the leadership
			}
		default:
			l.again(group, err)
			l.sh.s.c.pass(ctx, legTrouble)
		}
	}
	return refused, nil
}

// joined makes one topic of those with one id.
func joined(topics []kmsg.ShareAcknowledgeRequestTopic) (out []kmsg.ShareAcknowledgeRequestTopic) {
	for _, t := range topics {
		i := slices.IndexFunc(out, func(o kmsg.ShareAcknowledgeRequestTopic) bool { return o.TopicID == t.TopicID })
		if i < 0 {
			out = append(out, t)
		} else {
			out[i].Partitions = append(out[i].Partitions, t.Partitions...)
		}
	}
	return out
}

// batches is ops in the order of their offsets, those that follow each other and
// say the same in one.
func batches(partition int32, ops []*op) kmsg.ShareAcknowledgeRequestTopicPartition {
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	p.Partition = partition
	for _, o := range ops {
		if n := len(p.AcknowledgementBatches); n > 0 {
			if b := &p.AcknowledgementBatches[n-1]; b.LastOffset+1 == o.first && b.AcknowledgeTypes[0] == o.kind {
				b.LastOffset = o.last
				continue
			}
		}
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = o.first, o.last, []int8{o.kind}
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, b)
	}
	return p
}

func answerOf(resp *kmsg.ShareAcknowledgeResponse, id [16]byte, partition int32) (code int16, known bool) {
	for i := range resp.Topics {
		if resp.Topics[i].TopicID != id {
			continue
		}
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.Partition == partition {
				return p.ErrorCode, true
			}
		}
	}
	return 0, false
}

// farewell sends what is left and closes the session: the broker gives to others
// what is locked.
func (l *leg) farewell(ctx context.Context) {
	l.sh.s.mu.Lock()
	ops := l.ops
	l.ops = nil
	l.passLooks(func(*look) bool { return true })
	l.sh.s.mu.Unlock()
	if l.epoch == 0 {
		for _, o := range ops {
			l.sh.end(o, lease.ErrClosed)
		}
		return
	}
	for _, o := range ops {
		l.sh.end(o, fmt.Errorf("%w: the queue was closed meanwhile", lease.ErrUnknown))
	}
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = kmsg.StringPtr(l.sh.group), kmsg.StringPtr(l.sh.member), -1
	if _, err := req.RequestWith(ctx, l.at()); err != nil {
		l.sh.s.c.o.Logger.Debug("a share session was left open", "queue", l.sh.s.spec.Name, "error", err)
	}
}
