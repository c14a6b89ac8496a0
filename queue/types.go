package queue

import (
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// What users and drivers share; package driver says what each promises.
type (
	// Token is a fencing token.
	Token = lease.Token
	// Message is what is published and delivered.
	Message = driver.Message
	// Headers of a message.
	Headers = driver.Headers
	// Route says where a message is published.
	Route = driver.Route
	// Receipt is the outcome of publishing one message.
	Receipt = driver.Receipt
	// Durability says how safe a confirmed message is.
	Durability = driver.Durability
	// Topology is a set of exchanges, queues and bindings.
	Topology = driver.Topology
	// Kind of an exchange.
	Kind = driver.Kind
	// Exchange routes messages to queues.
	Exchange = driver.Exchange
	// QueueSpec declares a queue.
	QueueSpec = driver.Queue
	// QueueType says what becomes of a message that was read.
	QueueType = driver.QueueType
	// Overflow says what a full queue does with one message more.
	Overflow = driver.Overflow
	// Retention says what a stream keeps.
	Retention = driver.Retention
	// From says where reading a stream begins.
	From = driver.From
	// StreamMessage is one message of a stream.
	StreamMessage = driver.StreamMessage
	// Schedule publishes a message at each of its ticks.
	Schedule = driver.Schedule
	// ScheduleInfo describes a schedule.
	ScheduleInfo = driver.ScheduleInfo
	// Missed says what becomes of ticks that were missed.
	Missed = driver.Missed
	// Offset is how far a named consumer of a stream has come.
	Offset = driver.Offset
	// Binding sends what an exchange gets to a queue or another exchange.
	Binding = driver.Binding
	// Backoff between attempts of one message.
	Backoff = driver.Backoff
	// Change is one difference that a Declare makes.
	Change = driver.Change
	// DeleteRequest names what to delete.
	DeleteRequest = driver.DeleteRequest
	// Stats describes a queue.
	Stats = driver.QueueStats
	// State of a message in its queue.
	State = driver.State
	// Peeked is a message as it lies in its queue.
	Peeked = driver.Peeked
	// RedriveRequest moves dead letters.
	RedriveRequest = driver.RedriveRequest
	// Caps is what a backend has and assumes.
	Caps = driver.Caps
	// CommitError says which part of a Txn could not be done.
	CommitError = driver.CommitError
	// TxnResult is the outcome of a commit.
	TxnResult = driver.TxnResult
	// FieldError says which field of a request breaks which rule.
	FieldError = lease.FieldError
)

// Kinds of exchanges.
const (
	Direct      = driver.Direct
	Fanout      = driver.Fanout
	Topic       = driver.Topic
	HeadersKind = driver.HeadersKind
)

// Types of queues.
const (
	WorkQueue = driver.WorkQueue
	Stream    = driver.Stream
)

// Places in a stream to begin at.
const (
	FromOffset = driver.FromOffset
	FromTime   = driver.FromTime
	FromFirst  = driver.FromFirst
	FromLast   = driver.FromLast
	FromNext   = driver.FromNext
)

// What can become of missed ticks.
const (
	MissedAll    = driver.MissedAll
	MissedLatest = driver.MissedLatest
	MissedSkip   = driver.MissedSkip
)

// Headers of the messages that schedules publish.
const (
	HeaderSchedule = driver.HeaderSchedule
	HeaderTick     = driver.HeaderTick
)

// What a full queue does.
const (
	RejectPublish = driver.RejectPublish
	DropHead      = driver.DropHead
)

// How safe a confirmed message is, from the weakest to the strongest.
const (
	Memory     = driver.Memory
	Written    = driver.Written
	Synced     = driver.Synced
	Replicated = driver.Replicated
)

// States that Peek tells apart.
const (
	Ready    = driver.Ready
	Delayed  = driver.Delayed
	InFlight = driver.InFlight
)

// Headers with a meaning: those of a dead letter, and the trace context.
const (
	HeaderDeathReason   = driver.HeaderDeathReason
	HeaderDeathDetail   = driver.HeaderDeathDetail
	HeaderDeathQueue    = driver.HeaderDeathQueue
	HeaderDeathCount    = driver.HeaderDeathCount
	HeaderDeathAttempts = driver.HeaderDeathAttempts
	HeaderDeathTime     = driver.HeaderDeathTime
	HeaderOriginalRoute = driver.HeaderOriginalRoute
	HeaderOriginalKey   = driver.HeaderOriginalKey
	HeaderTraceParent   = driver.HeaderTraceParent
	HeaderTraceState    = driver.HeaderTraceState
	ReasonRejected      = driver.ReasonRejected
	ReasonDeliveryLimit = driver.ReasonDeliveryLimit
	ReasonExpired       = driver.ReasonExpired
	ReasonMaxLength     = driver.ReasonMaxLength
	ArgMatch            = driver.ArgMatch
)

// DefaultExchange is the exchange to which every queue is bound by its name.
const DefaultExchange = driver.DefaultExchange
