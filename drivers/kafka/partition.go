package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// partition is one that this client has. What was read and is not settled is in
// a list, in the order of the offsets: all before its first entry is done, and
// can be committed. So nothing has to be kept for what is done.
type partition struct {
	place
	next        int64 // offset of what was not read yet; -1: not known yet
	committed   int64
	first, last *entry
	held        int           // in flight, or being settled
	idle        chan struct{} // not nil: it is to be given up; closed when nothing is in flight
	paused      bool
	gone        bool
}

// watermark is the offset before which everything is done.
func (p *partition) watermark() int64 {
	if p.first != nil {
		return p.first.offset
	}
	return p.next
}

// link puts an entry behind all others.
func (p *partition) link(e *entry) {
	e.prev = p.last
	if p.last != nil {
		p.last.next = e
	} else {
		p.first = e
	}
	p.last = e
}

func (p *partition) unlink(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		p.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		p.last = e.prev
	}
	e.prev, e.next = nil, nil
}

// settled notes that one delivery less is in flight; mu is held.
func (p *partition) settled() {
	if p.held--; p.held == 0 && p.idle != nil {
		close(p.idle)
	}
}

// assigned is called by the client when the group has decided.
func (s *source) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, ids := range added {
		for _, id := range ids {
			at := place{topic, id}
			s.parts[at] = &partition{place: at, next: -1, committed: -1}
		}
	}
	s.joined = true
	s.wakeAll()
}

// adjust is called by the client with where it is to begin: at what was
// committed, but not before the queue or its bindings were made.
func (s *source) adjust(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, parts := range offsets {
		for id, o := range parts {
			begin := o.EpochOffset().Offset // below 0: nothing was committed
			since := int64(0)
			if f := s.feeds[topic]; f != nil {
				since = f.begin(id)
			}
			if begin < since {
				begin = since
				parts[id] = kgo.NewOffset().At(begin)
			}
			if p := s.parts[place{topic, id}]; p != nil {
				p.next, p.committed = begin, begin
			}
		}
	}
	s.wakeAll()
	return offsets, nil
}

// begin is the first offset of a partition that can be the queue's.
func (f *feed) begin(partition int32) int64 {
	if f.exchange == "" {
		return at(f.since, partition)
	}
	first := int64(-1)
	for _, b := range f.bindings {
		if since := at(b.since, partition); first < 0 || since < first {
			first = since
		}
	}
	return max(first, 0)
}

// take adds what was read from a partition; mu is held.
func (s *source) take(topic string, id int32, records []*kgo.Record) {
	p, f := s.parts[place{topic, id}], s.feeds[topic]
	if p == nil || f == nil {
		return
	}
	for _, r := range records {
		if r.Offset < p.next {
			continue
		}
		p.next = r.Offset + 1
		if !r.Attrs.IsControl() {
			s.admit(p, f, r)
		}
	}
	if p.next-p.watermark() > s.c.o.Span && !p.paused {
		p.paused = true
		s.cl.PauseFetchPartitions(map[string][]int32{topic: {id}})
	}
	signal(s.dirty)
}

// admit takes a record if it is for this queue.
func (s *source) admit(p *partition, f *feed, r *kgo.Record) {
	e := s.entryOf(p, f, r)
	if e == nil {
		return
	}
	s.count(e)
	s.enqueue(e)
}

// count takes an entry into what was read; mu is held.
func (s *source) count(e *entry) {
	e.number = s.arrived
	s.arrived++
	s.size += e.size
	e.p.link(e)
}

// entryOf makes an entry of a record; nil if it is not for this queue.
func (s *source) entryOf(p *partition, f *feed, r *kgo.Record) *entry {
	route := driver.Route{Key: s.spec.Name}
	var m *driver.Message
	if f.exchange != "" {
		route = driver.Route{Exchange: f.exchange, Key: routingKey(r)}
		headers := func() driver.Headers {
			if m == nil {
				m = decode(r)
			}
			return m.Headers
		}
		if !matches(f.kind, f.bindings, p.id, r.Offset, route.Key, headers) {
			return nil
		}
	} else if r.Offset < at(f.since, p.id) {
		return nil
	}
	if m == nil {
		m = decode(r)
	}
	return &entry{p: p, offset: r.Offset, message: m, route: route, published: r.Timestamp, size: entrySize(r)}
}

// entryOverhead is about what an entry takes besides its message.
const entryOverhead = 500

func entrySize(r *kgo.Record) int {
	n := entryOverhead + len(r.Value) + 2*len(r.Key)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value) + entryOverhead/10
	}
	return n
}

// finish forgets an entry that is done; mu is held.
func (s *source) finish(e *entry) {
	p := e.p
	if first := p.first == e; first {
		signal(s.dirty)
	}
	p.unlink(e)
	s.size -= e.size
	if s.full && s.size <= s.c.o.Buffer/2 {
		signal(s.room)
	}
	if p.paused && p.next-p.watermark() < s.c.o.Span/2 {
		p.paused = false
		s.cl.ResumeFetchPartitions(map[string][]int32{p.topic: {p.id}})
	}
	e.state = done
	s.pass(e)
}

// dropParts forgets partitions with all that was read from them; mu is held.
func (s *source) dropParts(parts []*partition) {
	for _, p := range parts {
		s.dropPart(p)
	}
	s.ready.sweep()
}

// dropPart is dropParts for one, but for what was ready to be delivered.
func (s *source) dropPart(p *partition) {
	if p.gone {
		return
	}
	p.gone = true
	delete(s.parts, p.place)
	if p.paused { // the client would keep that for when it gets the partition again
		s.cl.ResumeFetchPartitions(map[string][]int32{p.topic: {p.id}})
	}
	var keyed []*entry
	for e := p.first; e != nil; e = e.next {
		if e.state == held {
			s.unlend(e)
		}
		if e.timer != nil {
			e.timer.Stop()
		}
		if e.lane != nil {
			keyed = append(keyed, e)
		}
		e.state = done
		s.size -= e.size
	}
	p.first, p.last = nil, nil
	for _, e := range keyed {
		s.pass(e)
	}
	if p.idle != nil && p.held > 0 {
		close(p.idle)
	}
	p.held = 0
	signal(s.room)
}

// revoked is called by the client before it gives partitions up. What is in
// flight from them may still be settled for a while; then what was settled is
// committed, and the rest is not held any more.
func (s *source) revoked(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.mu.Lock()
	parts := s.named(lost)
	for _, p := range parts {
		if p.idle = make(chan struct{}); p.held == 0 {
			close(p.idle)
		}
	}
	s.mu.Unlock()
	if len(parts) == 0 {
		return
	}
	deadline := time.NewTimer(s.c.o.Drain)
	defer deadline.Stop()
	for _, p := range parts {
		select {
		case <-p.idle:
		case <-deadline.C:
			deadline.Reset(0) // for the others, too
		case <-s.ctx.Done():
		}
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	s.commitParts(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropParts(parts)
}

// lost is called by the client when others may have the partitions already:
// nothing is committed.
func (s *source) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.commits.Lock()
	defer s.commits.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropParts(s.named(lost))
	s.joined = false
}

// named returns those of the partitions that are there; mu is held.
func (s *source) named(parts map[string][]int32) (out []*partition) {
	for topic, ids := range parts {
		for _, id := range ids {
			if p := s.parts[place{topic, id}]; p != nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// commit commits what is done, until the source is stopped.
func (s *source) commit() {
	for {
		select {
		case <-s.dirty:
		case <-s.ctx.Done():
			return
		}
		s.commitNow(s.ctx)
		if !s.c.pass(s.ctx, commitEvery) {
			return
		}
	}
}

func (s *source) commitNow(ctx context.Context) {
	s.commits.Lock()
	defer s.commits.Unlock()
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	s.commitParts(ctx)
}

// commitParts commits the watermarks that have grown; commits is held.
func (s *source) commitParts(ctx context.Context) {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	s.mu.Lock()
	for at, p := range s.parts {
		if w := p.watermark(); w > p.committed {
			if offsets[at.topic] == nil {
				offsets[at.topic] = map[int32]kgo.EpochOffset{}
			}
			offsets[at.topic][at.id] = kgo.EpochOffset{Epoch: -1, Offset: w}
		}
	}
	s.mu.Unlock()
	if len(offsets) == 0 {
		return
	}
	s.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil || !s.noteCommitted(offsets, r) {
			signal(s.dirty) // later, then
		}
	})
}

// noteCommitted reports whether all was committed; mu is held.
func (s *source) noteCommitted(offsets map[string]map[int32]kgo.EpochOffset, r *kmsg.OffsetCommitResponse) bool {
	all := true
	for i := range r.Topics {
		topic := &r.Topics[i]
		for j := range topic.Partitions {
			part := &topic.Partitions[j]
			if kerr.ErrorForCode(part.ErrorCode) != nil {
				all = false
			} else if p := s.parts[place{topic.Topic, part.Partition}]; p != nil {
				p.committed = max(p.committed, offsets[topic.Topic][part.Partition].Offset)
			}
		}
	}
	return all
}
