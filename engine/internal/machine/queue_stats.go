package machine

import (
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Stats reads.
func (m *Queues) Stats(now Time, view View, c *ReadStats) {
	r := c.Request
	if r.Queue != "" {
		q, err := m.find(r.Queue)
		if err != nil {
			c.Err = err
			return
		}
		c.Stats = []queuedriver.QueueStats{m.stats(now, view, q)}
		return
	}
	most := r.Max
	if most == 0 {
		most = queuedriver.DefaultList
	}
	from, _ := slices.BinarySearch(m.sorted, max(r.Prefix, r.After))
	for _, name := range m.sorted[from:] {
		if len(c.Stats) == most || !strings.HasPrefix(name, r.Prefix) {
			return
		}
		if name > r.After {
			c.Stats = append(c.Stats, m.stats(now, view, m.queues[name]))
		}
	}
}

func (m *Queues) stats(now Time, view View, q *queue) queuedriver.QueueStats {
	consumers, waiting := 0, 0
	for _, c := range q.consumers {
		waiting += c.receivers.n
		switch {
		case c.left:
		case c.receivers.first != nil || now.Mono.Sub(c.seen) <= consumerSeen:
			consumers++
		case !c.busy() && !q.watched():
			m.forget(c)
		}
	}
	if q.stream != nil {
		consumers = q.stream.readers.n // that wait
		waiting = consumers
	}
	active := ""
	if q.active != nil {
		active = q.active.id
	}
	c := &q.counters
	return queuedriver.QueueStats{
		Name:         q.spec.Name,
		Ready:        c.Live - int64(len(q.flights)) - int64(len(q.waiting)) - int64(len(q.late)),
		Delayed:      c.Delayed + int64(len(q.waiting)) + int64(len(q.late)),
		InFlight:     int64(len(q.flights)),
		Bytes:        c.Bytes,
		OldestAge:    m.oldest(now, view, q),
		Consumers:    consumers,
		Waiting:      waiting,
		Active:       active,
		Published:    c.Published,
		Duplicates:   c.Duplicates,
		Delivered:    c.Delivered,
		Acked:        c.Acked,
		Nacked:       c.Nacked,
		Expired:      c.Expired,
		DeadLettered: c.DeadLettered,
		Dropped:      c.Dropped,
		TimedOut:     c.TimedOut,
		Overflowed:   c.Overflowed,
		Refused:      c.Refused,
	}
}

// oldest returns the age of the first message that is left.
func (m *Queues) oldest(now Time, view View, q *queue) time.Duration {
	if q.counters.Live == 0 {
		return 0
	}
	published := int64(0)
	for i := range q.levels {
		if at := q.oldestOf(&q.levels[i]); at != 0 && (published == 0 || at < published) {
			published = at
		}
	}
	if published == 0 {
		_, err := m.walk(view, q, 0, func(_ entry, b *record.IndexBlock) bool {
			published = b.Published
			return false
		})
		if err != nil || published == 0 {
			return 0 // unknown, or published in this round
		}
	}
	return time.Duration(max(0, now.Wall-published))
}

// oldestOf returns when the first message that is left of a level was
// published; 0 if it is not in memory.
func (q *queue) oldestOf(l *level) int64 {
	if s := q.segments[segmentOf(*l.head)]; s != nil {
		for i := range s.blocks {
			if s.blocks[i].left > 0 {
				return s.blocks[i].published
			}
		}
	}
	return 0
}
