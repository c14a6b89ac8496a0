package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// ask has the legs look for what a receive wants.
func (sh *share) ask(w *waiter, r *driver.ReceiveRequest) error {
	if r.Lease > MaxShareLease {
		return lease.Invalidf("lease", "must be at most %v of a share group, is %v", MaxShareLease, r.Lease)
	}
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	w.most, w.until = r.Max, time.Now().Add(r.Wait)
	if r.Ahead > 0 {
		sh.ahead[r.Consumer] = r.Ahead
	}
	for _, l := range sh.legs {
		signal(l.wake)
	}
	return nil
}

// sync returns when enough is ready, or all was read that is there for this
// member.
func (sh *share) sync(ctx context.Context, w *waiter) error {
	s := sh.s
	s.mu.Lock()
	topics := slices.Collect(maps.Keys(s.feeds))
	s.mu.Unlock()
	ends, err := s.c.ends(ctx, topics...)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return context.Cause(ctx)
		}
		return s.failed(err)
	}
	k := &look{most: w.most, done: make(chan struct{})}
	s.mu.Lock()
	for _, p := range sh.parts {
		if es := ends[p.topic]; int(p.id) < len(es) {
			p.end = es[p.id]
		}
	}
	k.left = len(sh.legs)
	for _, l := range sh.legs {
		l.looks = append(l.looks, k)
		signal(l.wake)
	}
	none := k.left == 0
	s.mu.Unlock()
	if none {
		return nil
	}
	select {
	case <-k.done:
		return nil
	case <-ctx.Done():
	case <-s.c.ctx.Done():
		return lease.ErrClosed
	case <-s.ctx.Done():
		return errLeft
	}
	s.mu.Lock()
	for _, l := range sh.legs {
		l.passLooks(func(o *look) bool { return o == k })
	}
	s.mu.Unlock()
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// take adds what a broker gave to this member, and reports whether it was
// anything.
func (sh *share) take(l *leg, resp *kmsg.ShareFetchResponse, began time.Time) (got bool, err error) {
	s := sh.s
	names := map[[16]byte]string{}
	s.mu.Lock()
	for _, p := range sh.of(l) {
		names[p.topicID] = p.topic
	}
	s.mu.Unlock()
	routed := false
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			routed = routed || len(resp.Topics[i].Partitions[j].AcquiredRecords) > 0 && names[resp.Topics[i].TopicID] != s.topic
		}
	}
	for routed && s.ctx.Err() == nil && s.c.syncRecord(s.ctx) != nil { // see awaitBindings
		s.c.pass(s.ctx, maxPause)
	}
	var doomed []*entry
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := time.Duration(resp.AcquisitionLockTimeoutMillis) * time.Millisecond; d > 0 {
		sh.lockFor = d
	}
	lock := began.Add(sh.lockFor)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			part := &t.Partitions[j]
			p := sh.parts[place{names[t.TopicID], part.Partition}]
			if p == nil || p.leg != l {
				continue
			}
			if perr := kerr.ErrorForCode(part.ErrorCode); perr != nil {
				err = perr
				sh.stale = true
				signal(sh.stir)
				continue
			}
			if len(part.AcquiredRecords) > 0 {
				got, p.fresh = true, 0
				doomed = append(doomed, sh.admit(p, part, lock)...)
			}
		}
	}
	if len(doomed) > 0 {
		sh.moving += len(doomed)
		for _, e := range doomed {
			e.state = settling
			e.p.held++
		}
		if !s.c.work.Start(func() { sh.rescue(doomed) }) {
			sh.moving -= len(doomed)
		}
	}
	s.wakeAll()
	return got, err
}

// admit makes entries of what was acquired; mu is held. It returns those that
// must not be delivered.
func (sh *share) admit(p *sharePart, part *kmsg.ShareFetchResponseTopicPartition, lock time.Time) (doomed []*entry) {
	s, f := sh.s, sh.s.feeds[p.topic]
	records := recordsOf(p.place, part)
	for i := range part.AcquiredRecords {
		a := &part.AcquiredRecords[i]
		for offset := a.FirstOffset; offset <= a.LastOffset; offset++ {
			for len(records) > 0 && records[0].Offset < offset {
				records = records[1:]
			}
			if old := p.entries[offset]; old != nil {
				sh.lose(old) // its lock ran out
			}
			if len(records) == 0 || records[0].Offset > offset {
				last := a.LastOffset
				if len(records) > 0 {
					last = min(last, records[0].Offset-1)
				}
				sh.tellRange(p, offset, last, kindGap)
				offset = last
				continue
			}
			e := sh.entry(p, f, records[0])
			if e == nil {
				sh.tellRange(p, offset, offset, kindAccept) // it is for others
				continue
			}
			e.lock = lock
			e.attempts += int(a.DeliveryCount) - 1
			s.count(e)
			p.entries[offset] = e
			if int(a.DeliveryCount) >= sh.limit-1 || sh.isSpent(e) {
				e.bury = ""
				if int(a.DeliveryCount) < sh.limit-1 {
					e.bury = driver.ReasonDeliveryLimit
				}
				doomed = append(doomed, e)
				continue
			}
			s.offer(e)
		}
	}
	return doomed
}

// isSpent reports whether the attempts of a message are used up, by clients that
// died with it.
func (sh *share) isSpent(e *entry) bool {
	return sh.s.spec.DeadLetter != nil && e.attempts >= sh.s.spec.DeliveryLimit
}

// recordsOf reads the messages of an answer.
func recordsOf(at place, part *kmsg.ShareFetchResponseTopicPartition) []*kgo.Record {
	raw := kmsg.NewFetchResponseTopicPartition()
	raw.Partition, raw.RecordBatches = part.Partition, part.Records
	raw.HighWatermark, raw.LastStableOffset, raw.LogStartOffset = -1, -1, -1
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: at.topic, Partition: at.id}, &raw, kgo.DefaultDecompressor(), nil)
	return fp.Records
}

// entry makes one of a record, or returns nil if that is not for this queue; mu
// is held.
func (sh *share) entry(p *sharePart, f *feed, r *kgo.Record) *entry {
	if f == nil {
		return nil
	}
	e := sh.s.entryOf(p.partition, f, r)
	if e == nil {
		return nil
	}
	if f.exchange == "" {
		for i := range r.Headers {
			switch h := &r.Headers[i]; h.Key {
			case headerAttempts:
				e.attempts, _ = strconv.Atoi(string(h.Value))
			case headerExchange:
				e.route = driver.Route{Exchange: string(h.Value), Key: routingKey(r)}
			}
		}
	}
	return e
}

// rescue does what must be done with messages before they are delivered: those
// that the brokers would forget soon begin anew as copies, and those whose
// attempts are used up are dead-lettered.
func (sh *share) rescue(es []*entry) {
	s := sh.s
	ctx, cancel := context.WithTimeout(s.ctx, s.c.o.PublishFor)
	defer cancel()
	b := newBatch(len(es))
	var copied []*entry
	var sent []int
	for i, e := range es {
		if e.bury != "" {
			sh.buryAgain(e)
			continue
		}
		rec, err := sh.copyOf(e)
		if err != nil {
			b.receipts[i].Err = err
		} else {
			s.c.send(ctx, b, i, rec)
		}
		copied, sent = append(copied, e), append(sent, i)
	}
	b.wait()
	var ops []*op
	var done []*entry
	s.mu.Lock()
	for k, e := range copied {
		if e.state != settling {
			continue
		}
		if err := b.receipts[sent[k]].Err; err != nil {
			s.c.o.Logger.Warn("a message could not be begun anew yet", "queue", s.spec.Name, "error", err)
			sh.later(e, buryPause, func() { sh.move(e) })
			continue
		}
		ops, done = append(ops, sh.opFor(e, kindAccept)), append(done, e)
	}
	s.mu.Unlock()
	sh.wait(s.ctx, ops)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range done {
		sh.lose(e)
	}
	sh.moving -= len(es)
	for _, l := range sh.legs {
		signal(l.wake)
	}
}

// move rescues one again.
func (sh *share) move(e *entry) {
	sh.s.mu.Lock()
	sh.moving++
	sh.s.mu.Unlock()
	sh.rescue([]*entry{e})
}

// copyOf is a message as it begins anew: in the queue's own topic, with what is
// known of it.
func (sh *share) copyOf(e *entry) (*kgo.Record, error) {
	rec, err := encode(sh.s.topic, &driver.Route{Key: sh.s.spec.Name}, e.message)
	if err != nil {
		return nil, err
	}
	rec.Timestamp = e.published
	header := func(name, value string) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	header(headerAttempts, strconv.Itoa(e.attempts))
	if e.route.Exchange != driver.DefaultExchange {
		header(headerExchange, e.route.Exchange)
		header(headerRouting, e.route.Key)
	}
	return rec, nil
}

// redrive moves dead letters, as Redrive says.
func (sh *share) redrive(ctx context.Context, to *driver.Route, most int64) (moved int64, err error) {
	s := sh.s
	var kept []*entry // they have nowhere to go to
	defer func() { sh.giveBack(ctx, kept) }()
	for moved < most && err == nil {
		n := int(min(most-moved, redriveBatch))
		w := s.enter(redriver)
		w.most = n
		err = sh.sync(ctx, w)
		s.leave(w)
		es := s.pick(n)
		if len(es) == 0 {
			break
		}
		gone, left, failed := s.publishBack(ctx, es, to)
		kept, err = append(kept, left...), failed
		var ops []*op
		s.mu.Lock()
		for _, e := range gone {
			ops = append(ops, sh.opFor(e, kindAccept))
		}
		s.mu.Unlock()
		sh.wait(ctx, ops)
		s.mu.Lock()
		for _, e := range gone {
			sh.lose(e)
		}
		s.mu.Unlock()
		moved += int64(len(gone))
	}
	return moved, err
}

// giveBack releases entries that were taken for nothing.
func (sh *share) giveBack(ctx context.Context, es []*entry) {
	var ops []*op
	sh.s.mu.Lock()
	for _, e := range es {
		if e.state == settling || e.state == ready {
			ops = append(ops, sh.opFor(e, kindRelease))
		}
	}
	for _, e := range es {
		sh.lose(e)
	}
	sh.s.mu.Unlock()
	sh.wait(ctx, ops)
}
