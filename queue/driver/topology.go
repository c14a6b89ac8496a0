package driver

import "time"

// Kind of an exchange.
type Kind string

// Exchange kinds of AMQP 0-9-1.
const (
	Direct      Kind = "direct"
	Fanout      Kind = "fanout"
	Topic       Kind = "topic"
	HeadersKind Kind = "headers"
)

// Topology is a set of exchanges, queues and bindings.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
}

// Exchange routes messages to the queues bound to it.
type Exchange struct {
	Name string // 1 to MaxName bytes
	Kind Kind
	// Alternate is the exchange that gets the messages which match no binding
	// of this one; "" means none. It must exist or be declared together with
	// this one, and cannot be deleted before it; alternates do not form
	// circles. Needs Caps.Alternate.
	Alternate string
}

// QueueType says what becomes of a message that was read.
type QueueType string

// Types of queues.
const (
	// WorkQueue hands each message to one consumer and forgets it when it
	// is acked. It is the zero value.
	WorkQueue QueueType = ""
	// Stream keeps its messages, whoever reads them, as Queue.Retention
	// says. Needs Caps.Streams.
	Stream QueueType = "stream"
)

// Overflow says what a full queue does with one message more.
type Overflow string

// Policies of a queue that has MaxLength or MaxBytes.
const (
	// RejectPublish refuses the new message: ErrQueueFull in its receipt. It
	// is the default.
	RejectPublish Overflow = "reject"
	// DropHead dead-letters the oldest messages that are not in flight, of
	// the lowest priority first, or drops them if the queue has no dead
	// letter. If the dead letter leads nowhere, or to a queue that would have
	// to dead-letter for it, the messages stay and the queue refuses new ones.
	DropHead Overflow = "drop_head"
)

// Queue keeps messages until they are acked.
type Queue struct {
	Name string // 1 to MaxName bytes

	// Lease of a delivery unless the consumer asks for another. 0 means
	// DefaultLease.
	Lease time.Duration
	// DeliveryLimit is after how many failed attempts a message is
	// dead-lettered: 1 to MaxDeliveryLimit. 0 means DefaultDeliveryLimit if
	// there is a DeadLetter, and no limit if there is none; a limit without
	// a DeadLetter is invalid, for it would lose messages.
	DeliveryLimit int
	// DeadLetter is where rejected and exhausted messages go. nil: rejected
	// ones are dropped. A Key of "" keeps the message's routing key. If the
	// route leads to no queue the message stays, and is tried again after
	// the backoff: one past its limit to be dead-lettered, a rejected one
	// with its consumers.
	DeadLetter *Route
	// Backoff is the delay before an attempt after a failed one.
	Backoff Backoff
	// DedupWindow is how long an ID published to this queue is remembered:
	// 0 (not at all) to MaxDedupWindow. An ID is refused for at least the
	// window and at most a third longer.
	DedupWindow time.Duration

	// Type is WorkQueue or Stream. A stream leases nothing: of what is here
	// it takes DedupWindow and Retention only.
	Type QueueType
	// MaxPriority is the highest priority that the queue tells apart, 0 (none)
	// to MaxPriority: a message of a higher one counts as of this one. Higher
	// priorities are delivered first, whatever that means for lower ones. A
	// message with an OrderKey is refused by a queue with priorities: its
	// order could not be kept. (As a dead letter it stays where it was.)
	// Needs Caps.Priorities.
	MaxPriority uint8
	// MessageTTL is after how long in the queue a message is dead-lettered, or
	// dropped if the queue has no dead letter; the shorter of it and
	// Message.TTL counts, from when it came into the queue: for a scheduled
	// one from when it came due. 0: never. At most MaxDelay. By the server's
	// wall clock. It is never delivered after that; one that is in flight
	// then ends when it comes back. Messages further behind than a backend
	// looks (the engine: 8,192 messages) stay until they are nearer. A dead
	// letter has no TTL of its own. Of several queues that it leads to, one
	// that timed out or overflowed comes only into those in which neither it
	// nor a copy of it has been since somebody rejected it or used up its
	// attempts; if there is none, into one of them or nowhere, as the backend
	// has it (the engine: into one). So dead letters that come back to their
	// queue do not become more. Needs Caps.MessageTTL.
	MessageTTL time.Duration
	// Expires is after how long without consumers the queue is deleted with
	// all that is in it. Declaring it again or a Receive begins the time anew,
	// as does a restart. 0: never. 1 s to MaxDelay. Needs Caps.QueueTTL.
	Expires time.Duration
	// MaxLength and MaxBytes bound the messages that are in the queue, in
	// flight or not, and the bytes of their bodies. 0: no bound. A message
	// larger than MaxBytes is lease.ErrLimit. A duplicate needs no room: it
	// is confirmed, see DedupWindow. Scheduled ones are not counted;
	// one that comes due while there is no room waits for it, and what is
	// published meanwhile is refused. A dead letter for which there is no
	// room stays where it was, and is tried again. Needs Caps.MaxLength.
	MaxLength, MaxBytes int64
	Overflow            Overflow // "" means RejectPublish if there is a bound
	// SingleActive delivers to one consumer at a time. The first to come is
	// active until it detaches or is gone, see Conn.Receive, and all its
	// deliveries are settled or have run out; then the one is that came first
	// of those that wait. So no two consumers ever handle messages of the
	// queue at once, and the order is kept. Who is active is not stored: after
	// a restart it is the consumer that has deliveries, or the first to come.
	// Needs Caps.SingleActive.
	SingleActive bool
	// Exclusive admits the connection only that declared it: to others all
	// requests for the queue are ErrExclusive but those of publishers
	// (Publish, CancelScheduled, Commit), those that look (Stats, Peek), and
	// Settle, for which the token of a delivery is enough. The queue is
	// deleted when that connection closes, or by a restart. Needs
	// Caps.Exclusive.
	Exclusive bool
	// AutoDelete deletes the queue, with all that is in it, when its last
	// consumer has left: it has detached or is gone, and has no deliveries.
	// One that never had a consumer, or none since a restart, stays. Needs
	// Caps.AutoDelete.
	AutoDelete bool
	// Retention bounds a stream.
	Retention Retention
}

// Retention says what a stream keeps: the oldest messages go when any of the
// bounds is passed. 0 means no bound. Whole segments of 4,096 messages go at
// once, so that a stream may keep so many more.
type Retention struct {
	Age      time.Duration // at most MaxRetentionAge
	Messages int64
	Bytes    int64 // of bodies
}

// Backoff doubles from Min to Max with the number of failed attempts, and
// takes a part between half and the whole of it, different each time.
// Zero values mean DefaultBackoffMin and DefaultBackoffMax.
type Backoff struct {
	Min, Max time.Duration // 0 to MaxDelay
}

// Binding sends what an exchange gets, and matches, to a queue or to another
// exchange, which routes it on by its own kind. Exchanges may form circles: a
// message goes through each once, and to each queue once. It is unroutable if
// it gets to no queue.
type Binding struct {
	Exchange string
	Queue    string // where to: exactly one of Queue and ToExchange
	// ToExchange needs Caps.ExchangeBindings.
	ToExchange string
	// Key is matched with the routing key by a direct exchange (equal) and
	// by a topic exchange (words separated by dots; * is one word, # any
	// number of words). An empty key is one empty word, or on some backends
	// none.
	Key string
	// Args are matched with the message's headers by a headers exchange;
	// ArgMatch among them says "all" or "any".
	Args Headers
}

// Change is one difference that a Declare made.
type Change struct {
	Action string // "create"
	What   string // "exchange", "queue", "binding"
	Name   string // for people: `orders`, `orders -> payments (order.*)`
}

// DeleteRequest names exactly one of Exchange, Queue and Binding. Bindings from
// and to what is deleted go with it. An exchange that is the alternate of
// another, or the dead letter of a queue, is ErrInUse.
type DeleteRequest struct {
	Exchange string
	Queue    string
	Binding  *Binding
	IfEmpty  bool // Queue: ErrInUse if it has messages
	IfUnused bool // Exchange: ErrInUse if there are bindings from it
}
