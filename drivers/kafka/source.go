package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// source is a queue that this client receives from: a member of the queue's
// group, what it has read ahead, and what is in flight.
type source struct {
	c     *conn
	spec  *driver.Queue
	born  uint64
	topic string // of what is sent to the queue itself
	cl    *kgo.Client
	share *share // nil: of an ordered queue

	ctx    context.Context // ends when it is stopped
	cancel context.CancelFunc
	once   sync.Once
	left   chan struct{} // closed when the group was left
	polled chan struct{} // closed when nothing is read any more

	// commits is held while offsets are committed, and while partitions are
	// given up: so that nothing is committed for a partition that was.
	commits sync.Mutex

	mu      sync.Mutex
	feeds   map[string]*feed // by topic
	parts   map[place]*partition
	lanes   map[string]*lane // by order key
	ready   readyEntries     // that may be delivered now
	held    map[lease.Token]*entry
	leases  leases
	size    int  // bytes of entries
	full    bool // nothing is read until there is room
	joined  bool // a member, with what partitions there are for it
	arrived uint64
	why     error // not nil: it is of no use any more

	waiters   map[*waiter]struct{}
	consumers map[string]bool // that have received
	heard     time.Time       // of any of them

	trouble  string // that was logged last
	troubled time.Time

	room  chan struct{} // a token: look whether there is room
	dirty chan struct{} // a token: there may be something to commit
}

// feed is a topic that a queue reads.
type feed struct {
	exchange string // "": the queue's own
	kind     driver.Kind
	bindings []*bound
	since    []int64 // of the queue's own
}

// place names a partition.
type place struct {
	topic string
	id    int32
}

// waiter is a Receive that waits.
type waiter struct {
	consumer string
	wake     chan struct{} // a token: look
	gone     bool          // detached
	most     int           // messages that it asks for
	until    time.Time     // when it gives up
}

// Of a source.
const (
	pollRecords  = 2000                   // that are read at once
	fetchBytes   = 8 << 20                // of one answer
	fetchPart    = 1 << 20                // of one partition in it
	commitEvery  = 200 * time.Millisecond // at most so often
	commitTime   = 5 * time.Second        // for one commit
	sessionParts = 10                     // heartbeats a session
	syncGrace    = 20 * time.Second       // beyond Drain for a rebalance
)

// openSource makes a source and begins to receive.
func openSource(c *conn, q *queueState) (*source, error) {
	s := &source{
		c: c, spec: q.spec, born: q.born, topic: q.topic, left: make(chan struct{}), polled: make(chan struct{}),
		parts: map[place]*partition{}, lanes: map[string]*lane{}, held: map[lease.Token]*entry{}, waiters: map[*waiter]struct{}{},
		consumers: map[string]bool{}, heard: time.Now(), room: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
	s.leases.init()
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	s.feeds = c.feedsOf(q)
	if q.kind == Share {
		return s.joinShare(q)
	}
	return s.joinGroup(q)
}

// joinGroup makes it a member of a consumer group.
func (s *source) joinGroup(q *queueState) (*source, error) {
	c := s.c
	topics := make([]string, 0, len(s.feeds))
	for topic := range s.feeds {
		topics = append(topics, topic)
	}
	cl, err := kgo.NewClient(append(c.common[:len(c.common):len(c.common)],
		kgo.WithContext(context.Background()), // it says farewell
		kgo.ConsumerGroup(groupName(q.spec.Name, q.born)), kgo.ConsumeTopics(topics...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(c.o.Session), kgo.HeartbeatInterval(c.o.Session/sessionParts), kgo.RebalanceTimeout(c.o.Drain+syncGrace),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AdjustFetchOffsetsFn(s.adjust),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPart),
		kgo.OnPartitionsAssigned(s.assigned), kgo.OnPartitionsRevoked(s.revoked), kgo.OnPartitionsLost(s.lost),
	)...)
	if err != nil {
		s.cancel()
		return nil, lease.Invalidf("client", "is refused: %v", err)
	}
	s.cl = cl
	for _, f := range [...]func(){s.poll, s.commit, s.expire} {
		if !c.work.Start(f) {
			s.cancel()
			cl.Close()
			return nil, lease.ErrClosed
		}
	}
	return s, nil
}

// feedsOf returns the topics that a queue reads.
func (c *conn) feedsOf(q *queueState) map[string]*feed {
	feeds := map[string]*feed{q.topic: {since: q.since}}
	st := c.record.state()
	for exchange, bs := range q.feeds {
		if e := st.exchanges[exchange]; e != nil {
			feeds[e.topic] = &feed{exchange: exchange, kind: e.spec.Kind, bindings: bs}
		}
	}
	return feeds
}

// rebind takes over what the topology has become; it does not block.
func (s *source) rebind(q *queueState) {
	feeds := s.c.feedsOf(q)
	s.mu.Lock()
	var added, gone []string
	for topic := range feeds {
		if s.feeds[topic] == nil {
			added = append(added, topic)
		}
	}
	for topic := range s.feeds {
		if feeds[topic] == nil {
			gone = append(gone, topic)
		}
	}
	s.feeds = feeds
	if len(added) > 0 {
		s.joined = false // until it has the new ones
	}
	s.mu.Unlock()
	if len(added)+len(gone) == 0 {
		return
	}
	if s.share != nil {
		s.share.resubscribe(gone)
		return
	}
	s.c.work.Start(func() {
		if len(added) > 0 {
			s.cl.AddConsumeTopics(added...)
		}
		if len(gone) > 0 {
			s.forgetTopics(gone)
		}
	})
}

// forgetTopics drops what was read from topics that are not the queue's any
// more.
func (s *source) forgetTopics(topics []string) {
	s.cl.PurgeTopicsFromConsuming(topics...)
	s.commits.Lock()
	defer s.commits.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []*partition
	for at, p := range s.parts {
		if slices.Contains(topics, at.topic) && s.feeds[at.topic] == nil { // it did not come back
			parts = append(parts, p)
		}
	}
	s.dropParts(parts)
}

// poll reads until the source is stopped.
func (s *source) poll() {
	defer close(s.polled)
	for s.ctx.Err() == nil {
		fetches := s.cl.PollRecords(s.ctx, pollRecords)
		fetches.EachError(func(topic string, partition int32, err error) {
			if s.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				s.complain(topic, partition, err)
			}
		})
		s.awaitBindings(fetches)
		s.mu.Lock()
		fetches.EachPartition(func(f kgo.FetchTopicPartition) { s.take(f.Topic, f.Partition, f.Records) })
		s.full = s.size > s.c.o.Buffer
		s.wakeAll()
		s.mu.Unlock()
		s.cl.AllowRebalance()
		s.awaitRoom()
	}
}

// awaitBindings returns when the bindings are known that were declared before
// the messages of exchanges were published that have been read.
func (s *source) awaitBindings(fetches kgo.Fetches) {
	routed := false
	fetches.EachPartition(func(f kgo.FetchTopicPartition) { routed = routed || len(f.Records) > 0 && f.Topic != s.topic })
	for routed && s.ctx.Err() == nil && s.c.syncRecord(s.ctx) != nil {
		s.c.pass(s.ctx, maxPause)
	}
}

// complainEvery is how often the same trouble is logged.
const complainEvery = time.Minute

// complain logs that nothing can be read; topic is "" if that is so of the
// group. Only poll calls it.
func (s *source) complain(topic string, partition int32, err error) {
	if text := err.Error(); text != s.trouble || time.Since(s.troubled) > complainEvery {
		s.trouble, s.troubled = text, time.Now()
		s.c.o.Logger.Warn("messages cannot be read", "queue", s.spec.Name, "topic", topic, "partition", partition, "error", err)
	}
}

// awaitRoom returns when so much was settled that more can be read.
func (s *source) awaitRoom() {
	for {
		s.mu.Lock()
		if s.size <= s.c.o.Buffer/2 {
			s.full = false
		}
		full := s.full
		s.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-s.room:
		case <-s.ctx.Done():
			return
		}
	}
}

// wakeAll has every Receive that waits look; mu is held.
func (s *source) wakeAll() {
	for w := range s.waiters {
		signal(w.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// abandon ends all receives with an error; what is in flight is not held any
// more.
func (s *source) abandon(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
	}
	s.dropParts(slices.Collect(maps.Values(s.parts)))
	s.wakeAll()
}

// stop leaves the group. commit: what was settled is committed before.
func (s *source) stop(why error, commit bool) {
	s.once.Do(func() {
		defer close(s.left)
		s.cancel()
		if s.share != nil {
			s.share.leave(why)
			return
		}
		<-s.polled
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if commit {
			s.commitNow(ctx)
		}
		s.abandon(why)
		if err := s.cl.LeaveGroupContext(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.c.o.Logger.Debug("a group was left without a farewell", "queue", s.spec.Name, "error", err)
		}
		s.cl.CloseAllowingRebalance()
	})
	<-s.left
}

// detach notes that a consumer has left, and reports whether nobody is there any
// more: others in the group shall have the partitions then.
func (s *source) detach(consumer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.consumers, consumer)
	for w := range s.waiters {
		if w.consumer == consumer {
			w.gone = true
			signal(w.wake)
		}
	}
	return len(s.consumers) == 0 && !s.busy()
}

// busy reports whether anything is in flight; mu is held.
func (s *source) busy() bool {
	for _, p := range s.parts {
		if p.held > 0 {
			return true
		}
	}
	return false
}
