// Package driver is what a queue backend implements.
//
// The portable package queue owns everything that is the same everywhere:
// validation, ids, prefetch, extension of deliveries, worker pools, trace
// context, error wrapping. A driver makes one attempt and returns the raw
// error; it does not retry. Package queuetest is the conformance suite; a
// driver is done when it passes.
//
// Exchange, routing key, binding, queue, message, delivery, ack, nack,
// reject, prefetch, confirm and dead letter mean what they mean in AMQP
// 0-9-1. A delivery is a lease on a message: it has a TTL, it can be
// extended, and it has a fencing token, so that an ack by a consumer that was
// overtaken is refused.
//
// # Errors
//
// Drivers return the sentinels of package lease and of this package, wrapped
// or bare, so that errors.Is finds them. A transport error after which the
// request may have been carried out must match lease.ErrUnknown; one before
// which nothing was sent must match lease.ErrUnavailable.
package driver

import (
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Errors of queues only; see package lease for the others.
var (
	// ErrUnroutable: a mandatory message matched no queue. It was not published.
	ErrUnroutable = errors.New("message is unroutable")
	// ErrQueueFull: a queue that the message matched is at its MaxLength or
	// MaxBytes and rejects. The message is in none of them.
	ErrQueueFull = errors.New("queue is full")
	// ErrInUse: what was to be deleted has messages or bindings.
	ErrInUse = errors.New("in use")
	// ErrExclusive: the queue belongs to another connection.
	ErrExclusive = errors.New("queue is exclusive to another connection")
)

// Conn is one client's connection to a backend. All methods may be called
// concurrently. Slices passed in are not changed or kept after the call.
type Conn interface {
	// Caps says what the backend has and assumes. No I/O, never changes.
	Caps() Caps

	// Declare makes exchanges, queues and bindings, all or nothing, and
	// returns what it changed (or, with dryRun, would change). What exists
	// and is equal is no change; what exists and differs is
	// lease.ErrConflict; what a binding or a dead letter names and nobody
	// has is lease.ErrNotFound.
	Declare(ctx context.Context, t *Topology, dryRun bool) ([]Change, error)
	// Delete removes one exchange, queue or binding. lease.ErrNotFound,
	// ErrInUse.
	Delete(ctx context.Context, r *DeleteRequest) error
	// Topology returns everything declared, sorted by name.
	Topology(ctx context.Context) (*Topology, error)

	// Publish routes and stores a batch. len(receipts) == len(ps) if err is
	// nil: each message has its own outcome. It returns once the messages
	// are as safe as Receipt.Durability says. An unknown exchange is
	// lease.ErrNotFound in that message's receipt. On a non-nil err nothing
	// is known about any of them, unless it matches lease.ErrUnavailable,
	// lease.ErrInvalid or lease.ErrNoSpace: then nothing was published.
	Publish(ctx context.Context, ps []Publishing) ([]Receipt, error)

	// Receive leases up to r.Max messages to r.Consumer and returns them in
	// queue order. It waits up to r.Wait for the first one, and returns
	// none and no error if there was none. If ctx ends, what may have
	// been leased for this call is handed back without counting as an
	// attempt.
	//
	// With Caps.FairDispatch consumers that wait take turns: messages that
	// become ready at once are split evenly among them, as far as each asks
	// for so many (all its receives together) and the order of keys allows;
	// of a rest those get one more who have waited longer, and whoever got
	// something goes to the end of the line.
	//
	// A consumer is there while a Receive of it waits or a delivery of it is
	// live, and is heard of when a Receive begins or ends and when it settles.
	// After the queue's Lease of silence it is gone.
	Receive(ctx context.Context, r *ReceiveRequest) ([]Delivery, error)

	// Settle ends or extends deliveries. len(outcomes) == len(ss) if err is
	// nil. Outcome.Err is lease.ErrNotHeld for a delivery that was
	// settled, handed back or overtaken before; nothing is changed by that.
	Settle(ctx context.Context, ss []Settlement) ([]Outcome, error)

	// Commit does all of a Txn or nothing. An error that matches
	// lease.ErrUnknown says that it may have been done; after any other
	// nothing was, and a *CommitError says which part stood in the way:
	// lease.ErrNotHeld for a delivery or a lock, what a Receipt would say for
	// a message, lease.ErrConflict for an ID that was used with another
	// content. lease.ErrNoSpace if it would make a full store grow. A
	// message that its queue has seen before is no error: its Receipt says
	// Duplicate. lease.ErrUnsupported without Caps.Commit, and for locks
	// without Caps.Store.
	Commit(ctx context.Context, t *Txn) (*TxnResult, error)
	// Result returns the outcome that was recorded under a Txn's ID, with
	// Repeated set; lease.ErrNotFound if there is none, or none any more.
	Result(ctx context.Context, id string) (*TxnResult, error)

	// Detach says that the consumer will not receive from the queue any
	// more. Receives of it that wait return nothing; its deliveries stay
	// leased. Closing a connection detaches the consumers that receive over
	// it, where the backend knows connections.
	Detach(ctx context.Context, queue, consumer string) error

	// CancelScheduled drops the messages with this ID that wait in the queue
	// for the time they were scheduled for. lease.ErrNotFound if there is
	// none: it came due, was cancelled, or never was.
	CancelScheduled(ctx context.Context, queue, id string) error

	// Stats returns up to r.Max queues in byte order of their names.
	Stats(ctx context.Context, r *StatsRequest) ([]QueueStats, error)
	// Peek returns messages without leasing them.
	Peek(ctx context.Context, r *PeekRequest) ([]Peeked, error)
	// Purge drops all messages that are not in flight and says how many.
	Purge(ctx context.Context, queue string) (int64, error)
	// Redrive moves up to r.Max dead letters back to where they were first
	// published, or to r.To, and says how many. A message is moved
	// atomically: it is never in neither place.
	Redrive(ctx context.Context, r *RedriveRequest) (int64, error)

	Streams
	Scheduler

	// Close frees the connection; its deliveries are left to their leases.
	// Calls under way return lease.ErrClosed. Idempotent; waits for the
	// driver's goroutines.
	Close() error
}

// Headers of a message or arguments of a binding. Values are bool, int64,
// float64, string, []byte, time.Time (whole seconds), Headers or []any of
// these; Normalize turns the other integer and float types into them.
type Headers map[string]any

// Message is what a publisher sends. The zero value of a field means that it
// is not there.
type Message struct {
	ID       string // identifies the message for dedup; the portable layer makes one if empty
	OrderKey string // messages with one key are handled one after another, in order
	Headers  Headers
	Body     []byte
	Priority uint8

	TTL       time.Duration // dropped or dead-lettered when older, see Queue.MessageTTL
	Delay     time.Duration // not delivered before; excludes NotBefore
	NotBefore time.Time     // likewise, by the server's wall clock

	// As in AMQP 0-9-1; not interpreted.
	ContentType     string
	ContentEncoding string
	CorrelationID   string
	ReplyTo         string
	Type            string
	AppID           string
	UserID          string
	Timestamp       time.Time // whole seconds
}

// Route says where a message is published.
type Route struct {
	Exchange string // "" is the default exchange: Key names the queue
	Key      string // routing key
}

// Publishing is one message on its way in.
type Publishing struct {
	Route     Route
	Message   *Message
	Mandatory bool // ErrUnroutable if it matches no queue; otherwise it is dropped
}

// Durability says how safe a confirmed message is.
type Durability string

// From the weakest to the strongest.
const (
	Memory     Durability = "memory"     // lost when the process ends
	Written    Durability = "written"    // survives the process, not the machine
	Synced     Durability = "synced"     // on disk: survives a power loss
	Replicated Durability = "replicated" // held by several machines
)

// Receipt is the outcome of publishing one message.
type Receipt struct {
	Err        error
	Durability Durability
	Queues     int  // that it matched: they took it, or had it already; 0: unroutable and not mandatory; see Caps.CountsQueues
	Duplicate  bool // the ID was seen before by every queue it matched: nothing was stored
}

// Ref names one delivery.
type Ref struct {
	Queue string
	Seq   uint64 // the message within its queue
	Token lease.Token
}

// Delivery is one leased message.
type Delivery struct {
	Ref
	Message *Message // not to be changed
	Route   Route    // as it was published
	Attempt int      // 1 at first; does not count hand-backs
	TTL     time.Duration
	Waited  time.Duration // between receipt of the request and the moment from which TTL counts
	Age     time.Duration // since it was published
}

// ReceiveRequest asks for messages.
type ReceiveRequest struct {
	Queue    string
	Consumer string        // id of the consumer, 1 to MaxConsumer bytes
	Max      int           // 1 to MaxReceive
	MaxBytes int           // of bodies together, though one message is always returned; 0: MaxReceiveBytes
	Wait     time.Duration // 0 to MaxWait
	Lease    time.Duration // 0: the queue's; else Caps.MinLease to Caps.MaxLease

	// Ahead says that the consumer goes on receiving, and never has more than
	// so many deliveries: 0 to MaxAhead, 0 for a single receive. A backend
	// that pushes may keep what is left of that ready for the next receive,
	// out of the reach of others, until Detach. It binds nobody.
	Ahead int
}

// Verb says how a delivery is settled.
type Verb uint8

// What can be done with a delivery. Nack counts as an attempt, Release does
// not.
const (
	Ack     Verb = iota + 1 // handled: gone for good
	Nack                    // failed: again after a delay, or dead-lettered past the limit
	Release                 // not handled: back to where it was, at once
	Reject                  // never again: dead-lettered, or dropped if the queue has no dead letter
	Extend                  // lease anew
)

// Settlement settles one delivery.
type Settlement struct {
	Ref     Ref
	Verb    Verb
	Delay   time.Duration // Nack: 0 to MaxDelay
	Backoff bool          // Nack: the queue's backoff instead of Delay
	Reason  string        // Nack, Reject: why, up to MaxReason bytes, kept with a dead letter
	TTL     time.Duration // Extend: 0 is the lease's own
}

// Outcome is the result of one Settlement.
type Outcome struct {
	Err          error
	TTL          time.Duration // Extend
	DeadLettered bool          // Nack, Reject
}

// StatsRequest bounds a Stats.
type StatsRequest struct {
	Queue  string // exactly this queue, lease.ErrNotFound if there is none
	Prefix string
	After  string
	Max    int // 1 to MaxList; 0 means DefaultList
}

// QueueStats describes a queue. Counters count since the queue was declared;
// after a crash they may lack the last moments.
type QueueStats struct {
	Name      string
	Ready     int64 // to be delivered now, or when their key's turn comes
	Delayed   int64 // waiting for their time: scheduled, or backing off
	InFlight  int64
	Bytes     int64         // of stored bodies, not yet acked, approximately
	OldestAge time.Duration // of the oldest message that is not acked
	Consumers int           // that were heard of within the last minute
	Waiting   int           // receives that wait for messages
	Active    string        // the active consumer of a SingleActive queue, if it has one

	Published    int64
	Duplicates   int64
	Delivered    int64
	Acked        int64
	Nacked       int64
	Expired      int64 // leases of deliveries that ran out
	DeadLettered int64
	Dropped      int64 // rejected, timed out or overflown without a dead letter, purged, cancelled
	TimedOut     int64 // messages that became older than their TTL
	Overflowed   int64 // messages dropped from the head of the full queue
	Refused      int64 // publishes refused because it was full
}

// PeekRequest asks for messages to look at, in queue order.
type PeekRequest struct {
	Queue string
	After uint64 // continue behind this Seq
	Max   int    // 1 to MaxPeek; 0 means DefaultList
}

// State of a message in its queue.
type State string

// States that Peek tells apart.
const (
	Ready    State = "ready"
	Delayed  State = "delayed"
	InFlight State = "in_flight"
)

// Peeked is a message as it lies in its queue.
type Peeked struct {
	Seq      uint64 // 0 for one that was scheduled and has no place yet
	State    State
	Attempts int
	Age      time.Duration
	Route    Route
	Message  *Message
}

// RedriveRequest moves dead letters.
type RedriveRequest struct {
	Queue string
	To    *Route // nil: each to its original route
	Max   int    // 1 to MaxRedrive; 0 means MaxRedrive
}

// Caps is what a backend has and assumes, as data.
type Caps struct {
	Backend string

	Durability    Durability
	DeliveryFence bool // an overtaken ack is refused
	Dedup         bool
	OrderKey      bool // keys in parallel, each in order, no limit on their number
	Delay         bool
	DelayedNack   bool
	Extend        bool
	DeadLetter    bool
	HeadersRoute  bool
	Peek          bool
	Redrive       bool
	Mandatory     bool
	Purge         bool
	Stats         bool
	FIFO          bool

	CancelScheduled  bool // of a Delay or NotBefore
	FairDispatch     bool // see Conn.Receive
	ExchangeBindings bool // Binding.ToExchange
	Alternate        bool // Exchange.Alternate
	Priorities       bool // Queue.MaxPriority
	MessageTTL       bool // Message.TTL and Queue.MessageTTL
	QueueTTL         bool // Queue.Expires
	MaxLength        bool // Queue.MaxLength and Queue.MaxBytes
	SingleActive     bool
	Exclusive        bool
	AutoDelete       bool
	Streams          bool
	Schedules        bool
	Commit           bool // Conn.Commit and Conn.Result

	// Numbered: Ref.Seq is the message's number in its queue, the same in each
	// of its deliveries. Without, it only belongs to the token.
	Numbered bool
	// OutlivesConn: a delivery stays leased when the connection that it came
	// over is lost, and any connection can settle it. Without, it goes back at
	// once, which counts as an attempt, and settling it is lease.ErrNotHeld.
	OutlivesConn bool
	// ConfirmedAck: a settlement that had no error is as safe as a confirmed
	// message. Without, what was acked in the last moment before a connection
	// was lost may be delivered again.
	ConfirmedAck bool
	// FreeRelease: a Release, and what is handed back for a Receive that
	// ended, does not count as an attempt. Without, it does.
	FreeRelease bool
	// OrderedRelease: what is released is back in its place. Without, it is
	// at the front of its queue, in the order in which it was released.
	OrderedRelease bool
	// CountsQueues: Receipt.Queues is exact. Without, it is 1 for several.
	CountsQueues bool
	IfEmpty      bool // DeleteRequest.IfEmpty

	// Store names what the backend keeps everything in, if it keeps locks
	// there too: a Commit may name the locks of a connection whose Caps have
	// the same Store. "": it has no locks.
	Store string

	MinLease, MaxLease time.Duration
	MaxDelay           time.Duration // of a message, a nack and a backoff; 0: the portable MaxDelay
	MaxBody            int
}

// LongestDelay is MaxDelay, which may be 0, or the limit of the portable API.
func (c *Caps) LongestDelay() time.Duration {
	if c.MaxDelay > 0 {
		return c.MaxDelay
	}
	return MaxDelay
}

// Keys of the headers that a dead letter carries.
const (
	HeaderDeathReason     = "lockkeeper-death-reason" // string: "rejected", "delivery_limit", "expired", "maxlen"
	HeaderDeathDetail     = "lockkeeper-death-detail" // string: Settlement.Reason
	HeaderDeathQueue      = "lockkeeper-death-queue"  // string: queue that it last died in
	HeaderDeathCount      = "lockkeeper-death-count"  // int64: how often it has died
	HeaderDeathAttempts   = "lockkeeper-death-attempts"
	HeaderDeathTime       = "lockkeeper-death-time"     // time.Time
	HeaderOriginalRoute   = "lockkeeper-first-exchange" // string: as first published
	HeaderOriginalKey     = "lockkeeper-first-key"
	HeaderReservedPrefix  = "lockkeeper-"
	ReasonRejected        = "rejected"
	ReasonDeliveryLimit   = "delivery_limit"
	ReasonExpired         = "expired"
	ReasonMaxLength       = "maxlen"
	HeaderTraceParent     = "traceparent"
	HeaderTraceState      = "tracestate"
	ArgMatch              = "x-match" // in Binding.Args of a headers exchange: "all" (default) or "any"
	DefaultExchange       = ""
	ReservedExchangeNames = "amq."
)
