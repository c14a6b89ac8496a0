package rabbitmq

import (
	"context"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// closeTime bounds the farewell to a broker.
const closeTime = 2 * time.Second

// conn is a driver.Conn on a RabbitMQ.
type conn struct {
	driver.Unsupported // AMQP shows a message by delivering it, and finds none that is delayed

	o    *Options
	dial Dial
	caps driver.Caps

	out *side // publishes, declares
	in  *side // receives, settles
	pub *publisher

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	work   closegroup.Group

	recording chan struct{} // holds a token while nobody is at the record

	mu        sync.Mutex
	state     *record            // as it was last read or written
	exchanges map[string]bool    // that are known to exist
	targets   map[string]bool    // queues that delayed messages can be sent to
	levels    map[int64]bool     // of the ladder that are known to exist
	sources   map[string]*source // by queue
	held      map[lease.Token]*held
	inboxes   map[*inbox]struct{} // that are open
	last      lease.Token         // that was made
	leases    *leases
}

var (
	_ driver.Conn      = (*conn)(nil)
	_ driver.Pipeliner = (*conn)(nil)
)

func newConn(dial Dial, o *Options) *conn {
	c := &conn{
		o: o, dial: dial, recording: make(chan struct{}, 1),
		exchanges: map[string]bool{driver.DefaultExchange: true}, targets: map[string]bool{}, levels: map[int64]bool{},
		sources: map[string]*source{}, held: map[lease.Token]*held{}, inboxes: map[*inbox]struct{}{},
	}
	c.recording <- struct{}{}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.out, c.in = newSide(c, "publish"), newSide(c, "receive")
	c.pub = newPublisher(c)
	c.leases = newLeases()
	c.work.Start(c.pub.run)
	c.work.Start(c.expire)
	return c
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

func (c *conn) isClosed() bool { return c.ctx.Err() != nil }

// Close implements driver.Conn. The broker has the deliveries back at once.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.cancel()
		c.farewell()
		c.work.Close()
		c.in.close()
		c.out.close()
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
	if s != nil {
		s.detach(consumer)
	}
	return nil
}
