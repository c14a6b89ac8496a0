package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// closeTime bounds the farewell to the brokers.
const closeTime = 3 * time.Second

// conn is a driver.Conn on a Kafka.
type conn struct {
	driver.Unsupported

	o      *Options
	common []kgo.Opt // of all clients
	caps   driver.Caps

	cl          *kgo.Client // publishes, declares, follows the record
	adm         *kadm.Client
	replication int16

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	work   closegroup.Group

	declaring chan struct{} // holds a token while nobody changes the record
	record    follower
	last      atomic.Uint64 // token that was made

	mu      sync.Mutex
	sources map[string]*source // by queue
}

var (
	_ driver.Conn      = (*conn)(nil)
	_ driver.Pipeliner = (*conn)(nil)
)

func newConn(client []kgo.Opt, o *Options) (*conn, error) {
	c := &conn{o: o, declaring: make(chan struct{}, 1), sources: map[string]*source{}}
	c.declaring <- struct{}{}
	c.record.init()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.common = append(append([]kgo.Opt{
		kgo.ClientID("lockkeeper"), kgo.DialTimeout(o.Timeout), kgo.RetryTimeout(o.Timeout), kgo.RequestTimeoutOverhead(o.Timeout),
		kgo.MetadataMinAge(metadataAge), kgo.ConnIdleTimeout(idleTime), kgo.RetryBackoffFn(retryPause),
	}, client...), kgo.WithContext(c.ctx))
	cl, err := kgo.NewClient(append(c.common[:len(c.common):len(c.common)],
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordDeliveryTimeout(o.PublishFor), kgo.ProduceRequestTimeout(o.Timeout), kgo.UnknownTopicRetries(int(unknownFor/metadataAge)),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(maxBuffered), kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytesFn(o.maxBatch),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.recordTopic(): {0: kgo.NewOffset().AtStart()}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)...)
	if err != nil {
		c.cancel()
		return nil, lease.Invalidf("client", "is refused: %v", err)
	}
	c.cl, c.adm = cl, kadm.NewClient(cl)
	return c, nil
}

// Of the clients.
const (
	metadataAge      = 100 * time.Millisecond // between two looks at what topics there are
	unknownFor       = 5 * time.Second        // a topic was made a moment ago, and a busy broker does not know it yet
	idleTime         = 5 * time.Minute        // after which a connection is closed
	maxBuffered      = 1 << 16                // messages that are not confirmed
	maxBufferedBytes = 64 << 20
)

// Pauses before a request is made again that failed for now.
const (
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

func retryPause(fails int) time.Duration {
	d := min(minPause<<min(max(fails-1, 0), 10), maxPause)
	return d/2 + rand.N(d/2)
}

// open finds out what answers, and reads the record.
func (c *conn) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	if err := c.cl.Ping(ctx); err != nil {
		return classify(err, lease.ErrUnavailable)
	}
	brokers, err := c.adm.ListBrokers(ctx)
	if err != nil {
		return classify(err, lease.ErrUnavailable)
	}
	c.replication = int16(min(max(len(brokers), 1), usualReplication))
	if c.o.Replication > 0 {
		c.replication = int16(c.o.Replication)
	}
	c.caps = capabilities(c.o, int(c.replication))
	if err := c.makeRecord(ctx); err != nil {
		return named("topic", c.o.recordTopic(), classify(err, lease.ErrUnavailable))
	}
	if !c.work.Start(c.follow) {
		return lease.ErrClosed
	}
	return c.syncRecord(ctx)
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

func (c *conn) isClosed() bool { return c.ctx.Err() != nil }

// Close implements driver.Conn. Others have the partitions, and what was in
// flight from them, at once.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.mu.Lock()
		sources := c.sources
		c.sources = nil
		c.mu.Unlock()
		var wg sync.WaitGroup
		for _, s := range sources {
			wg.Go(func() { s.stop(lease.ErrClosed, true) })
		}
		wg.Wait()
		c.cancel()
		c.work.Close()
		c.cl.Close()
	})
	c.work.Wait()
	return nil
}

// Detach implements driver.Conn.
func (c *conn) Detach(_ context.Context, queue, consumer string) error {
	if err := driver.ValidateQueueName("queue", queue); err != nil {
		return err
	}
	if err := driver.ValidateConsumer("consumer", consumer); err != nil {
		return err
	}
	if c.isClosed() {
		return lease.ErrClosed
	}
	c.mu.Lock()
	s := c.sources[queue]
	c.mu.Unlock()
	if s != nil && s.detach(consumer) {
		c.drop(s)
		c.work.Start(func() { s.stop(errLeft, true) })
	}
	return nil
}

// errLeft ends the receives of a queue that nobody receives from any more; they
// begin anew.
var errLeft = errors.New("the group was left")

// drop forgets a source, so that the next receive makes a new one.
func (c *conn) drop(s *source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources[s.spec.Name] == s {
		delete(c.sources, s.spec.Name)
	}
}

// source returns the source of a queue, and makes it if it is not there.
func (c *conn) source(ctx context.Context, queue string) (*source, error) {
	q, err := c.findQueue(ctx, queue)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources == nil {
		return nil, lease.ErrClosed
	}
	old := c.sources[queue]
	if old != nil && old.born == q.born {
		return old, nil
	}
	s, err := openSource(c, q)
	if err != nil {
		return nil, err
	}
	c.sources[queue] = s
	if old != nil {
		c.forsake(old)
	}
	return s, nil
}

// forsake ends what a queue was that is gone.
func (c *conn) forsake(s *source) {
	c.work.Start(func() {
		s.abandon(fmt.Errorf("queue %q: %w", s.spec.Name, lease.ErrNotFound))
		s.stop(nil, false)
	})
}

// findQueue returns what is declared about a queue.
func (c *conn) findQueue(ctx context.Context, name string) (*queueState, error) {
	if q := c.record.state().queues[name]; q != nil {
		return q, nil
	}
	if err := c.syncRecord(ctx); err != nil {
		return nil, err
	}
	if q := c.record.state().queues[name]; q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("queue %q: %w", name, lease.ErrNotFound)
}

// changed tells the sources what the topology has become.
func (c *conn) changed(st *state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.sources {
		if q := st.queues[name]; q == nil || q.born != s.born {
			delete(c.sources, name)
			c.forsake(s)
		} else {
			s.rebind(q)
		}
	}
}

// inSync is how many brokers have to have a message before it is confirmed:
// more than half, so that any one of three can be lost, and go on being away.
func inSync(replication int16) int { return int(replication)/2 + 1 }

// createTopic makes a topic unless there is one, and reports whether it did.
func (c *conn) createTopic(ctx context.Context, topic string, partitions int, settings map[string]*string) (bool, error) {
	if settings == nil {
		settings = map[string]*string{}
	}
	settings["min.insync.replicas"] = kadm.StringPtr(strconv.Itoa(inSync(c.replication)))
	r, err := c.adm.CreateTopic(ctx, int32(partitions), c.replication, settings, topic)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return false, nil
	case err != nil && r.ErrMessage != "":
		return false, fmt.Errorf("%w: %s", err, r.ErrMessage)
	}
	return err == nil, err
}

// freshPause is between two looks for a topic that should be there.
const freshPause = 10 * time.Millisecond

func (c *conn) listEnds(ctx context.Context, topics []string) (kadm.ListedOffsets, error) {
	listed, err := c.adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	return listed, err
}

// ends returns the offset behind the last message of each partition.
func (c *conn) ends(ctx context.Context, topics ...string) (map[string][]int64, error) {
	listed, err := c.listEnds(ctx, topics)
	for errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.LeaderNotAvailable) {
		if !c.pass(ctx, freshPause) { // a topic was made a moment ago, and not every broker knows
			return nil, err
		}
		listed, err = c.listEnds(ctx, topics)
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string][]int64, len(topics))
	for topic, partitions := range listed {
		ends := make([]int64, len(partitions))
		for p, o := range partitions {
			if int(p) < len(ends) {
				ends[p] = o.Offset
			}
		}
		out[topic] = ends
	}
	return out, nil
}
