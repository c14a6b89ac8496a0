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
}

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
}

// Backoff doubles from Min to Max with the number of failed attempts, and
// takes a part between half and the whole of it, different each time.
// Zero values mean DefaultBackoffMin and DefaultBackoffMax.
type Backoff struct {
	Min, Max time.Duration // 0 to MaxDelay
}

// Binding sends what an exchange gets, and matches, to a queue.
type Binding struct {
	Exchange string
	Queue    string
	// Key is matched with the routing key by a direct exchange (equal) and
	// by a topic exchange (words separated by dots; * is one word, # any
	// number of words).
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

// DeleteRequest names exactly one of Exchange, Queue and Binding.
type DeleteRequest struct {
	Exchange string
	Queue    string
	Binding  *Binding
	IfEmpty  bool // Queue: ErrInUse if it has messages
	IfUnused bool // Exchange: ErrInUse if it has bindings
}
