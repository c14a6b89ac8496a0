package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// ReadStream says which messages there are for a reader, who then reads
// offsets From to End from the store. If there is none it waits until some
// are stored, and gets those at once. With Request.Wait 0 it does not wait;
// the shell ends a longer wait by LeaveStream.
type ReadStream struct {
	Request *queuedriver.StreamRequest // validated
	// Searched is for a request by time: no message before this offset is as
	// late. 0: nobody has looked yet.
	Searched uint64
	Owner    any // the shell's own, to recognise it in Finished

	QueueID     uint32
	From        uint64 // the first to read; by time: to search
	First, End  uint64
	Fresh       []record.Message // From, From+1, ..., if it waited; not to be changed
	Err         error
	queue       *queue // where it waits
	prev, after *ReadStream
}

// LeaveStream ends a waiting ReadStream, which finishes at once with nothing.
type LeaveStream struct{ Read *ReadStream }

// SaveOffset remembers where a consumer of a stream is.
type SaveOffset struct {
	Stream, Consumer string
	Offset           uint64
	Err              error
}

// DeleteOffset forgets it.
type DeleteOffset struct {
	Stream, Consumer string
	Err              error
}

// ReadOffsets returns one or all of a stream.
type ReadOffsets struct {
	Stream, Consumer string
	Offsets          []queuedriver.Offset
	Err              error
}

func (*ReadStream) command()   {}
func (*LeaveStream) command()  {}
func (*SaveOffset) command()   {}
func (*DeleteOffset) command() {}
func (*ReadOffsets) command()  {}

// ReadStream decides a read, or has it wait.
func (m *Queues) ReadStream(c *ReadStream) {
	q, err := m.findStream(c.Request.Queue)
	if err == nil {
		err = q.checkOffset(c.Request.Offset)
	}
	if err != nil {
		c.Err = err
		m.Finished.add(c)
		return
	}
	c.QueueID, c.First, c.End = q.id, q.first(), q.counters.NextSeq
	switch c.Request.From {
	case queuedriver.FromOffset:
		c.From = max(c.Request.Offset, c.First)
	case queuedriver.FromTime:
		c.From = max(c.Searched, c.First)
	case queuedriver.FromFirst:
		c.From = c.First
	case queuedriver.FromLast:
		c.From = max(c.End-1, c.First)
	case queuedriver.FromNext:
		c.From = c.End
	}
	if c.From < c.End || c.Request.Wait == 0 {
		m.Finished.add(c)
		return
	}
	c.queue = q
	q.stream.readers.push(c)
	m.touch(q)
}

// checkOffset refuses an offset past the end: it was saved by another store,
// or by one that was newer, and waiting for it would pass over messages.
func (q *queue) checkOffset(offset uint64) error {
	if next := q.counters.NextSeq; offset > next {
		return lease.Invalidf("offset", "must be at most %d, which is the end of stream %q, is %d", next, q.spec.Name, offset)
	}
	return nil
}

// LeaveStream ends a waiting read.
func (m *Queues) LeaveStream(c *LeaveStream) {
	if q := c.Read.queue; q != nil {
		m.finishRead(q, c.Read)
	}
}

func (m *Queues) finishRead(q *queue, r *ReadStream) {
	q.stream.readers.remove(r)
	r.queue = nil
	m.Finished.add(r)
}

// wakeReaders gives what was just stored, from first on, to those who wait
// for it. They share it: many who follow a stream cost no read of the store.
func (m *Queues) wakeReaders(q *queue, first uint64) {
	s := q.stream
	var fresh []record.Message
	for r := s.readers.first; r != nil; {
		next := r.after
		r.First, r.From, r.End = q.first(), first, q.counters.NextSeq
		if r.Request.From == queuedriver.FromTime && s.newest < r.Request.Time.UnixNano() {
			r.From = r.End // not late enough
		} else {
			if fresh == nil {
				fresh = slices.Clone(q.pending[:min(len(q.pending), queuedriver.MaxReceive)])
			}
			r.Fresh = fresh
			m.finishRead(q, r)
		}
		r = next
	}
}

// dismissReaders tells those who wait that the stream is gone.
func (m *Queues) dismissReaders(q *queue) {
	for r := q.stream.readers.first; r != nil; r = q.stream.readers.first {
		r.Err = fmt.Errorf("queue %q was deleted: %w", q.spec.Name, lease.ErrNotFound)
		m.finishRead(q, r)
	}
}

// SaveOffset decides it.
func (m *Queues) SaveOffset(ch Changes, c *SaveOffset) {
	q, err := m.findStream(c.Stream)
	if err == nil {
		err = q.checkOffset(c.Offset)
	}
	if err != nil {
		c.Err = err
		return
	}
	s := q.stream
	have, known := s.offsets[c.Consumer]
	switch {
	case known && have == c.Offset:
	case !known && len(s.offsets) >= queuedriver.MaxOffsets:
		c.Err = fmt.Errorf("stream %q: offsets of %d consumers at most: %w", c.Stream, queuedriver.MaxOffsets, lease.ErrLimit)
	default:
		s.offsets[c.Consumer] = c.Offset
		ch.PutOffset(q.id, c.Consumer, c.Offset)
	}
}

// DeleteOffset decides it.
func (m *Queues) DeleteOffset(ch Changes, c *DeleteOffset) {
	q, err := m.findStream(c.Stream)
	if err != nil {
		c.Err = err
		return
	}
	if _, known := q.stream.offsets[c.Consumer]; !known {
		c.Err = noOffset(c.Stream, c.Consumer)
		return
	}
	delete(q.stream.offsets, c.Consumer)
	ch.DeleteOffset(q.id, c.Consumer)
}

func noOffset(stream, consumer string) error {
	return fmt.Errorf("offset of consumer %q of stream %q: %w", consumer, stream, lease.ErrNotFound)
}

// ReadOffsets reads.
func (m *Queues) ReadOffsets(c *ReadOffsets) {
	q, err := m.findStream(c.Stream)
	if err != nil {
		c.Err = err
		return
	}
	for consumer, offset := range q.stream.offsets {
		if c.Consumer == "" || c.Consumer == consumer {
			c.Offsets = append(c.Offsets, queuedriver.Offset{Consumer: consumer, Offset: offset})
		}
	}
	if c.Consumer != "" && c.Offsets == nil {
		c.Err = noOffset(c.Stream, c.Consumer)
	}
	slices.SortFunc(c.Offsets, func(a, b queuedriver.Offset) int { return strings.Compare(a.Consumer, b.Consumer) })
}

// readerList is the FIFO of reads that wait, from which one can leave.
type readerList struct {
	first, last *ReadStream
	n           int
}

func (l *readerList) push(r *ReadStream) {
	l.n++
	r.prev, r.after = l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.after = r
	}
	l.last = r
}

func (l *readerList) remove(r *ReadStream) {
	l.n--
	if r.prev == nil {
		l.first = r.after
	} else {
		r.prev.after = r.after
	}
	if r.after == nil {
		l.last = r.prev
	} else {
		r.after.prev = r.prev
	}
	r.prev, r.after = nil, nil
}
