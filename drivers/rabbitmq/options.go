package rabbitmq

import (
	"context"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Leases of a delivery. A longer one would come near the half hour after which
// a broker, by its defaults, takes deliveries back by itself.
const (
	MinLease = 100 * time.Millisecond
	MaxLease = 15 * time.Minute
)

// MaxDelay bounds delays and backoffs: RabbitMQ keeps no time longer than 49
// days.
const MaxDelay = 30 * 24 * time.Hour

// Defaults and bounds of Options.
const (
	DefaultPrefix     = "lockkeeper."
	DefaultTimeout    = 10 * time.Second
	DefaultPublishFor = 30 * time.Second
	MaxPrefix         = 64 // bytes
)

const (
	minTimeout    = 100 * time.Millisecond
	maxTimeout    = 5 * time.Minute
	minPublishFor = time.Second
	maxPublishFor = time.Hour
)

// QueueType says what RabbitMQ makes of a queue.
type QueueType string

// Types of queues.
const (
	Quorum  QueueType = "quorum"  // replicated where there are several nodes; it counts deliveries
	Classic QueueType = "classic" // on one node, or mirrored by a policy
)

// Options of New; nil and zero values work.
type Options struct {
	// Prefix begins the names of the queues and exchanges that the driver
	// makes for itself; "": DefaultPrefix. All clients of the same queues
	// must agree on it.
	Prefix string
	// QueueType of the queues that are declared; "": Quorum.
	QueueType QueueType
	// Timeout bounds connecting, and each request about topology; 0:
	// DefaultTimeout.
	Timeout time.Duration
	// PublishFor is for how long a message is sent again, over a new
	// connection, while it is not confirmed; 0: DefaultPublishFor.
	PublishFor time.Duration
	// Logger is told what no call returns; nil: slog's default.
	Logger *slog.Logger
}

// withDefaults returns a copy without zero values, or what is wrong.
func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Prefix == "" {
		d.Prefix = DefaultPrefix
	}
	if d.QueueType == "" {
		d.QueueType = Quorum
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultTimeout
	}
	if d.PublishFor == 0 {
		d.PublishFor = DefaultPublishFor
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if err := lease.ValidateText("prefix", d.Prefix, 1, MaxPrefix); err != nil {
		return nil, err
	}
	switch {
	case d.QueueType != Quorum && d.QueueType != Classic:
		return nil, lease.Invalidf("queue_type", "must be quorum or classic, is %q", d.QueueType)
	case d.Timeout < minTimeout || d.Timeout > maxTimeout:
		return nil, lease.Invalidf("timeout", "must be %v to %v, is %v", minTimeout, maxTimeout, d.Timeout)
	case d.PublishFor < minPublishFor || d.PublishFor > maxPublishFor:
		return nil, lease.Invalidf("publish_for", "must be %v to %v, is %v", minPublishFor, maxPublishFor, d.PublishFor)
	}
	return &d, nil
}

// Dial makes one connection to the broker, without recovery of its own; name
// says what for. It is called whenever one is needed: two at a time, and again
// after one was lost. ctx bounds it.
type Dial func(ctx context.Context, name string) (*amqp.Connection, error)

// New opens queues over connections that dial makes, and which the returned
// Conn closes. ctx bounds the opening only.
func New(ctx context.Context, dial Dial, o *Options) (driver.Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if dial == nil {
		return nil, lease.Invalidf("dial", "is missing")
	}
	c := newConn(dial, o)
	l, err := c.out.get(ctx)
	if err == nil {
		c.caps, err = capabilities(l.conn.Properties, o.QueueType)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
