package kafka

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Leases of a delivery.
const (
	MinLease = 100 * time.Millisecond
	MaxLease = 12 * time.Hour
)

// MaxDelay bounds the delay of a nack and a backoff: for so long a failed
// message may hold up the commits of its partition.
const MaxDelay = 24 * time.Hour

// MaxBody is what fits, with headers, into a batch of a broker that was left at
// its defaults, which is 1 MB.
const MaxBody = 896 << 10

// Defaults and bounds of Options.
const (
	DefaultPrefix     = "lockkeeper."
	DefaultPartitions = 4
	DefaultTimeout    = 10 * time.Second
	DefaultPublishFor = 30 * time.Second
	DefaultSession    = 10 * time.Second
	DefaultDrain      = 15 * time.Second
	DefaultBuffer     = 32 << 20 // bytes
	DefaultSpan       = 4 << 20  // messages

	MaxPrefix      = 64 // bytes
	MaxPartitions  = 1000
	MaxReplication = 100
	MaxSpan        = 1 << 30
)

const (
	minTimeout    = 100 * time.Millisecond
	maxTimeout    = 5 * time.Minute
	minPublishFor = time.Second
	maxPublishFor = time.Hour
	minSession    = time.Second
	maxSession    = 10 * time.Minute
	maxDrain      = 10 * time.Minute
	minBuffer     = 1 << 20
	maxBuffer     = 16 << 30
	minSpan       = 1000
)

// QueueType is how queues are consumed.
type QueueType string

// Types of queues.
const (
	Ordered QueueType = "ordered" // a consumer group: the order of keys, and of partitions
	Share   QueueType = "share"   // a share group: no order, every message by itself; Kafka 4.2 or newer
)

// Options of New; nil and zero values work.
type Options struct {
	// QueueType of the queues that are declared; "": Ordered. A queue stays
	// what it was declared as, whoever receives from it.
	QueueType QueueType
	// Prefix begins the names of the topics that the driver makes for itself;
	// "": DefaultPrefix. All clients of the same queues must agree on it.
	Prefix string
	// Partitions of the topics that are declared; 0: DefaultPartitions.
	Partitions int
	// Replication is how many brokers hold a topic that is declared; 0: three,
	// or all where there are fewer.
	Replication int
	// Timeout bounds connecting, and each answer of a broker; 0: DefaultTimeout.
	Timeout time.Duration
	// PublishFor is for how long a message is sent again while it is not
	// confirmed; 0: DefaultPublishFor.
	PublishFor time.Duration
	// Session is after how long of silence a client loses its partitions to
	// others; 0: DefaultSession. Brokers bound it, by default to 6 s or more.
	Session time.Duration
	// Drain is how long a client that is to give up a partition waits for what
	// is in flight from it; 0: DefaultDrain.
	Drain time.Duration
	// Buffer is how many bytes of messages of one queue are read ahead; 0:
	// DefaultBuffer.
	Buffer int
	// Span is how far a partition is read past its first message that is not
	// settled; 0: DefaultSpan. After a crash at most so many come again.
	Span int64
	// Logger is told what no call returns; nil: slog's default.
	Logger *slog.Logger
}

// withDefaults returns a copy without zero values but Replication, or what is
// wrong.
func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if d.QueueType == "" {
		d.QueueType = Ordered
	}
	if d.Prefix == "" {
		d.Prefix = DefaultPrefix
	}
	if d.Partitions == 0 {
		d.Partitions = DefaultPartitions
	}
	for _, x := range [...]struct {
		value *time.Duration
		usual time.Duration
	}{
		{&d.Timeout, DefaultTimeout}, {&d.PublishFor, DefaultPublishFor}, {&d.Session, DefaultSession}, {&d.Drain, DefaultDrain},
	} {
		if *x.value == 0 {
			*x.value = x.usual
		}
	}
	if d.Buffer == 0 {
		d.Buffer = DefaultBuffer
	}
	if d.Span == 0 {
		d.Span = DefaultSpan
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	return &d, d.validate()
}

func (o *Options) validate() error {
	if o.QueueType != Ordered && o.QueueType != Share {
		return lease.Invalidf("queue_type", "must be %s or %s, is %q", Ordered, Share, o.QueueType)
	}
	if len(o.Prefix) > MaxPrefix || !legalTopic(o.Prefix) || strings.HasPrefix(o.Prefix, "__") {
		return lease.Invalidf("prefix", "must be at most %d letters, digits, dots, dashes and underscores, is %q", MaxPrefix, o.Prefix)
	}
	for _, x := range [...]struct {
		name               string
		value, least, most int64
	}{
		{"partitions", int64(o.Partitions), 1, MaxPartitions},
		{"replication", int64(o.Replication), 0, MaxReplication},
		{"buffer", int64(o.Buffer), minBuffer, maxBuffer},
		{"span", o.Span, minSpan, MaxSpan},
	} {
		if x.value < x.least || x.value > x.most {
			return lease.Invalidf(x.name, "must be %d to %d, is %d", x.least, x.most, x.value)
		}
	}
	for _, x := range [...]struct {
		name               string
		value, least, most time.Duration
	}{
		{"timeout", o.Timeout, minTimeout, maxTimeout},
		{"publish_for", o.PublishFor, minPublishFor, maxPublishFor},
		{"session", o.Session, minSession, maxSession},
		{"drain", o.Drain, 0, maxDrain},
	} {
		if x.value < x.least || x.value > x.most {
			return lease.Invalidf(x.name, "must be %v to %v, is %v", x.least, x.most, x.value)
		}
	}
	return nil
}

// New opens queues at the brokers that client names: options of kgo such as
// kgo.SeedBrokers, kgo.DialTLSConfig and kgo.SASL. Those about producing,
// consuming and groups are the driver's. ctx bounds the opening only.
func New(ctx context.Context, client []kgo.Opt, o *Options) (driver.Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newConn(client, o)
	if err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
