package wire

import (
	"time"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Capabilities is an answer to GET /v1/capabilities.
type Capabilities struct {
	Service string     `json:"service" doc:"always lockkeeper"`
	Version string     `json:"version"`
	Time    time.Time  `json:"time" doc:"the server's clock"`
	Locks   *LockCaps  `json:"locks,omitempty" doc:"missing: this daemon has no locks"`
	Queues  *QueueCaps `json:"queues,omitempty" doc:"missing: this daemon has no queues"`
}

// LockCaps is what the locks' backend has and assumes.
type LockCaps struct {
	Backend            string `json:"backend"`
	Fenced             bool   `json:"fenced"`
	FIFO               bool   `json:"fifo"`
	Shared             bool   `json:"shared"`
	Permits            bool   `json:"permits"`
	LockDelay          bool   `json:"lock_delay"`
	Meta               bool   `json:"meta"`
	Resume             bool   `json:"resume"`
	Revoke             bool   `json:"revoke"`
	Break              bool   `json:"break"`
	Multi              bool   `json:"multi"`
	Deadlock           bool   `json:"deadlock"`
	Election           bool   `json:"election"`
	Watch              bool   `json:"watch"`
	Loss               string `json:"loss"`
	Clock              string `json:"clock"`
	DeadWaiter         Millis `json:"dead_waiter_ms"`
	MinTTL             Millis `json:"min_ttl_ms"`
	MaxTTL             Millis `json:"max_ttl_ms"`
	TTLPerConn         bool   `json:"ttl_per_conn"`
	FailoverLosesGrant bool   `json:"failover_loses_grant"`
	Durable            bool   `json:"durable"`
	Store              string `json:"store,omitempty" doc:"commits can name locks if it is that of the queues"`

	Assumes LockStatement `json:"assumes" doc:"the same for people, in sentences"`
}

// LockStatement is what a lockdriver.Statement says.
type LockStatement struct {
	Clock  string `json:"clock,omitempty" doc:"which clock ends leases, and what it costs if it is stepped or slow"`
	Fence  string `json:"fence,omitempty" doc:"where tokens come from"`
	Node   string `json:"node,omitempty" doc:"what the loss of a node costs"`
	Waiter string `json:"waiter,omitempty" doc:"how a dead waiter is noticed"`
}

// NewLockCaps is the wire form of c.
func NewLockCaps(c lockdriver.Caps) *LockCaps {
	return &LockCaps{
		Backend: c.Backend, Fenced: c.Fenced, FIFO: c.FIFO, Shared: c.Shared, Permits: c.Permits, LockDelay: c.LockDelay,
		Meta: c.Meta, Resume: c.Resume, Revoke: c.Revoke, Break: c.Break, Multi: c.Multi, Deadlock: c.Deadlock, Election: c.Election, Watch: c.Watch,
		Loss: string(c.Loss), Clock: string(c.Clock), DeadWaiter: Ceil(c.DeadWaiter), MinTTL: Ceil(c.MinTTL), MaxTTL: Floor(c.MaxTTL),
		TTLPerConn: c.TTLPerConn, FailoverLosesGrant: c.FailoverLosesGrant, Durable: c.Durable, Store: c.Store,
		Assumes: LockStatement(c.Assumes),
	}
}

// Driver is the inverse of NewLockCaps.
func (c *LockCaps) Driver() lockdriver.Caps {
	return lockdriver.Caps{
		Backend: c.Backend, Fenced: c.Fenced, FIFO: c.FIFO, Shared: c.Shared, Permits: c.Permits, LockDelay: c.LockDelay,
		Meta: c.Meta, Resume: c.Resume, Revoke: c.Revoke, Break: c.Break, Multi: c.Multi, Deadlock: c.Deadlock, Election: c.Election, Watch: c.Watch,
		Loss: lockdriver.Loss(c.Loss), Clock: lockdriver.Clock(c.Clock),
		DeadWaiter: c.DeadWaiter.Duration(), MinTTL: c.MinTTL.Duration(), MaxTTL: c.MaxTTL.Duration(),
		TTLPerConn: c.TTLPerConn, FailoverLosesGrant: c.FailoverLosesGrant, Durable: c.Durable, Store: c.Store,
		Assumes: lockdriver.Statement(c.Assumes),
	}
}

// QueueCaps is what the queues' backend has and assumes.
type QueueCaps struct {
	Backend       string `json:"backend"`
	Durability    string `json:"durability"`
	DeliveryFence bool   `json:"delivery_fence"`
	Dedup         bool   `json:"dedup"`
	OrderKey      bool   `json:"order_key"`
	Delay         bool   `json:"delay"`
	DelayedNack   bool   `json:"delayed_nack"`
	Extend        bool   `json:"extend"`
	DeadLetter    bool   `json:"dead_letter"`
	HeadersRoute  bool   `json:"headers_route"`
	Peek          bool   `json:"peek"`
	Redrive       bool   `json:"redrive"`
	Mandatory     bool   `json:"mandatory"`
	Purge         bool   `json:"purge"`
	Stats         bool   `json:"stats"`
	FIFO          bool   `json:"fifo"`

	CancelScheduled  bool `json:"cancel_scheduled"`
	FairDispatch     bool `json:"fair_dispatch"`
	ExchangeBindings bool `json:"exchange_bindings"`
	Alternate        bool `json:"alternate"`
	Priorities       bool `json:"priorities"`
	MessageTTL       bool `json:"message_ttl"`
	QueueTTL         bool `json:"queue_ttl"`
	MaxLength        bool `json:"max_length"`
	SingleActive     bool `json:"single_active"`
	Exclusive        bool `json:"exclusive" doc:"over the connection that asks"`
	ExclusiveSession bool `json:"exclusive_session" doc:"over a session"`
	AutoDelete       bool `json:"auto_delete"`
	Streams          bool `json:"streams"`
	Schedules        bool `json:"schedules"`
	Commit           bool `json:"commit"`

	Numbered       bool `json:"numbered" doc:"a message has one number in all its deliveries"`
	OutlivesConn   bool `json:"outlives_connection" doc:"deliveries stay leased when their connection is lost"`
	ConfirmedAck   bool `json:"confirmed_ack" doc:"an ack is as safe as a confirmed message"`
	FreeRelease    bool `json:"free_release" doc:"a release does not count as an attempt"`
	OrderedRelease bool `json:"ordered_release" doc:"what is released is back in its place"`
	CountsQueues   bool `json:"counts_queues" doc:"receipts say how many queues a message matched"`
	IfEmpty        bool `json:"if_empty" doc:"a queue can be deleted if it is empty"`

	Store string `json:"store,omitempty" doc:"commits can name locks if it is that of the locks"`

	MinLease Millis `json:"min_lease_ms"`
	MaxLease Millis `json:"max_lease_ms"`
	MaxDelay Millis `json:"max_delay_ms,omitempty" doc:"missing: the limit of the interface"`
	MaxBody  int    `json:"max_body_bytes"`
}

// NewQueueCaps is the wire form of c.
func NewQueueCaps(c queuedriver.Caps) *QueueCaps {
	return &QueueCaps{
		Backend: c.Backend, Durability: string(c.Durability), DeliveryFence: c.DeliveryFence, Dedup: c.Dedup,
		OrderKey: c.OrderKey, Delay: c.Delay, DelayedNack: c.DelayedNack, Extend: c.Extend, DeadLetter: c.DeadLetter,
		HeadersRoute: c.HeadersRoute, Peek: c.Peek, Redrive: c.Redrive, Mandatory: c.Mandatory, Purge: c.Purge,
		Stats: c.Stats, FIFO: c.FIFO,
		CancelScheduled: c.CancelScheduled, FairDispatch: c.FairDispatch, ExchangeBindings: c.ExchangeBindings, Alternate: c.Alternate, Priorities: c.Priorities, MessageTTL: c.MessageTTL, QueueTTL: c.QueueTTL, MaxLength: c.MaxLength, SingleActive: c.SingleActive, Exclusive: c.Exclusive, AutoDelete: c.AutoDelete, Streams: c.Streams, Schedules: c.Schedules, Commit: c.Commit, Store: c.Store,
		Numbered: c.Numbered, OutlivesConn: c.OutlivesConn, ConfirmedAck: c.ConfirmedAck, FreeRelease: c.FreeRelease,
		OrderedRelease: c.OrderedRelease, CountsQueues: c.CountsQueues, IfEmpty: c.IfEmpty,
		MinLease: Ceil(c.MinLease), MaxLease: Floor(c.MaxLease), MaxDelay: Floor(c.MaxDelay), MaxBody: c.MaxBody,
	}
}

// Driver is the inverse of NewQueueCaps.
func (c *QueueCaps) Driver() queuedriver.Caps {
	return queuedriver.Caps{
		Backend: c.Backend, Durability: queuedriver.Durability(c.Durability), DeliveryFence: c.DeliveryFence, Dedup: c.Dedup,
		OrderKey: c.OrderKey, Delay: c.Delay, DelayedNack: c.DelayedNack, Extend: c.Extend, DeadLetter: c.DeadLetter,
		HeadersRoute: c.HeadersRoute, Peek: c.Peek, Redrive: c.Redrive, Mandatory: c.Mandatory, Purge: c.Purge,
		Stats: c.Stats, FIFO: c.FIFO,
		CancelScheduled: c.CancelScheduled, FairDispatch: c.FairDispatch, ExchangeBindings: c.ExchangeBindings, Alternate: c.Alternate, Priorities: c.Priorities, MessageTTL: c.MessageTTL, QueueTTL: c.QueueTTL, MaxLength: c.MaxLength, SingleActive: c.SingleActive, Exclusive: c.Exclusive, AutoDelete: c.AutoDelete, Streams: c.Streams, Schedules: c.Schedules, Commit: c.Commit, Store: c.Store,
		Numbered: c.Numbered, OutlivesConn: c.OutlivesConn, ConfirmedAck: c.ConfirmedAck, FreeRelease: c.FreeRelease,
		OrderedRelease: c.OrderedRelease, CountsQueues: c.CountsQueues, IfEmpty: c.IfEmpty,
		MinLease: c.MinLease.Duration(), MaxLease: c.MaxLease.Duration(), MaxDelay: c.MaxDelay.Duration(), MaxBody: c.MaxBody,
	}
}
