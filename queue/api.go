package queue

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// SKETCH: signatures that the other packages build against. Bodies and the
// final layout into files come with the package.

type (
	Message        = driver.Message
	Headers        = driver.Headers
	Route          = driver.Route
	Topology       = driver.Topology
	Exchange       = driver.Exchange
	QueueSpec      = driver.Queue
	Binding        = driver.Binding
	Backoff        = driver.Backoff
	Change         = driver.Change
	Receipt        = driver.Receipt
	Stats          = driver.QueueStats
	Peeked         = driver.Peeked
	Caps           = driver.Caps
	RedriveRequest = driver.RedriveRequest
	DeleteRequest  = driver.DeleteRequest
)

// Also re-export the errors of lease and driver, the Kinds, Durability values
// and header names.

type Opener func(ctx context.Context, url string) (driver.Conn, error)

func Register(scheme string, open Opener)                   { panic("sketch") }
func Schemes() []string                                     { panic("sketch") }
func Open(ctx context.Context, url string) (*Broker, error) { panic("sketch") }
func New(c driver.Conn, cfg *Config) *Broker                { panic("sketch") }

type Config struct {
	Logger *slog.Logger
	Clock  lease.Clock
}

type Broker struct{}

func (b *Broker) Caps() Caps                                               { panic("sketch") }
func (b *Broker) Declare(ctx context.Context, t *Topology) error           { panic("sketch") }
func (b *Broker) Diff(ctx context.Context, t *Topology) ([]Change, error)  { panic("sketch") } // what Declare would do
func (b *Broker) Apply(ctx context.Context, t *Topology) ([]Change, error) { panic("sketch") } // Declare that says what it did
func (b *Broker) Topology(ctx context.Context) (*Topology, error)          { panic("sketch") }
func (b *Broker) Delete(ctx context.Context, r *DeleteRequest) error       { panic("sketch") }

// Publish is mandatory by default: a message that matches no queue is
// ErrUnroutable, unless PublishOptions say otherwise. The error joins those of
// the single messages; receipts has them one by one.
func (b *Broker) Publish(ctx context.Context, r Route, ms ...*Message) ([]Receipt, error) {
	panic("sketch")
}
func (b *Broker) Publisher(o *PublisherOptions) *Publisher { panic("sketch") }

// Serve handles messages until ctx ends, then drains and returns nil. nil acks,
// an error retries with backoff, then dead-letters.
func (b *Broker) Serve(ctx context.Context, queue string, h Handler, o *ServeOptions) error {
	panic("sketch")
}
func (b *Broker) Consumer(ctx context.Context, queue string, o *ConsumerOptions) (*Consumer, error) {
	panic("sketch")
}
func (b *Broker) Stats(ctx context.Context, queue string) (*Stats, error) { panic("sketch") }
func (b *Broker) AllStats(ctx context.Context, prefix string) iter.Seq2[*Stats, error] {
	panic("sketch")
}
func (b *Broker) Peek(ctx context.Context, queue string, after uint64, max int) ([]Peeked, error) {
	panic("sketch")
}
func (b *Broker) Purge(ctx context.Context, queue string) (int64, error) { panic("sketch") }
func (b *Broker) Redrive(ctx context.Context, r *RedriveRequest) (int64, error) {
	panic("sketch")
}
func (b *Broker) Close() error { panic("sketch") }

type PublisherOptions struct {
	Window      int  // unconfirmed messages at most; 0: 2048
	WindowBytes int  // of bodies; 0: 16 MiB
	MaxBatch    int  // messages in one driver call; 0: 500
	Optional    bool // an unroutable message is dropped, not an error
}

// Publisher pipelines publishes: batches go out while others are being
// confirmed, in the order of the Sends.
type Publisher struct{}

// Send waits only for room in the window.
func (p *Publisher) Send(ctx context.Context, r Route, m *Message) (*Pending, error) {
	panic("sketch")
}
func (p *Publisher) Flush(ctx context.Context) error { panic("sketch") } // until all sent so far are decided; first error
func (p *Publisher) Close() error                    { panic("sketch") } // flushes

type Pending struct{}

func (p *Pending) Done() <-chan struct{}                        { panic("sketch") }
func (p *Pending) Receipt(ctx context.Context) (Receipt, error) { panic("sketch") } // waits

// Handler handles one delivery. ctx ends when the delivery's lease is lost.
// Errors: RetryAfter(err, d), Reject(err) (dead-letter now), Release (hand back).
type Handler func(ctx context.Context, d *Delivery) error

func RetryAfter(d time.Duration, err error) error { panic("sketch") }
func Reject(err error) error                      { panic("sketch") }

type ServeOptions struct {
	Concurrency  int           // handlers at once; 0: 1
	Prefetch     int           // deliveries leased ahead, at least Concurrency; 0: 2 x Concurrency
	Lease        time.Duration // 0: the queue's
	Consumer     string        // id; "": made
	DrainTimeout time.Duration // how long handlers may go on after ctx ended; 0: 30 s
}

type ConsumerOptions struct {
	Prefetch int           // leased and not settled at most; 0: 100
	Lease    time.Duration // 0: the queue's
	Consumer string
	NoExtend bool // leases are not extended by themselves
}

type Consumer struct{}

// Receive waits for at least one delivery and returns up to max.
func (c *Consumer) Receive(ctx context.Context, max int) ([]*Delivery, error) { panic("sketch") }
func (c *Consumer) Close() error                                              { panic("sketch") } // drains and hands back

// Delivery is a lease on a message.
type Delivery struct {
	Message *Message
	Route   Route
	Queue   string
	Attempt int
}

func (d *Delivery) Token() lease.Token                                { panic("sketch") }
func (d *Delivery) Seq() uint64                                       { panic("sketch") }
func (d *Delivery) Context() context.Context                          { panic("sketch") }
func (d *Delivery) Check() error                                      { panic("sketch") }
func (d *Delivery) Settle(ctx context.Context, v Verdict) error       { panic("sketch") }
func (d *Delivery) Ack(ctx context.Context) error                     { panic("sketch") }
func (d *Delivery) Extend(ctx context.Context, t time.Duration) error { panic("sketch") }

// Verdict is how a delivery ends.
type Verdict struct{}

func AckVerdict() Verdict                             { panic("sketch") }
func NackVerdict(d time.Duration, why string) Verdict { panic("sketch") }
func BackoffVerdict(why string) Verdict               { panic("sketch") } // Nack after the queue's backoff
func ReleaseVerdict() Verdict                         { panic("sketch") }
func RejectVerdict(why string) Verdict                { panic("sketch") }
