package wire

import queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"

// Route is an exchange and a routing key.
type Route struct {
	Exchange string `json:"exchange,omitempty"`
	Key      string `json:"key,omitempty"`
}

// Topology is a set of exchanges, queues and bindings: PUT and GET
// /v1/topology.
type Topology struct {
	Exchanges []Exchange `json:"exchanges,omitempty"`
	Queues    []Queue    `json:"queues,omitempty"`
	Bindings  []Binding  `json:"bindings,omitempty"`
}

// Exchange routes messages to queues.
type Exchange struct {
	Name string `json:"name"`
	Kind string `json:"kind" enum:"direct,fanout,topic,headers"`

	Alternate string `json:"alternate,omitempty" doc:"exchange that gets what this one routes nowhere"`
}

// Queue keeps messages until they are acked.
type Queue struct {
	Name          string   `json:"name"`
	Lease         Millis   `json:"lease_ms,omitempty" doc:"of a delivery; 30000 without it"`
	DeliveryLimit int      `json:"delivery_limit,omitempty" doc:"failed attempts before a message is dead-lettered"`
	DeadLetter    *Route   `json:"dead_letter,omitempty" doc:"where rejected and exhausted messages go"`
	Backoff       *Backoff `json:"backoff,omitempty" doc:"delay before another attempt"`
	DedupWindow   Millis   `json:"dedup_window_ms,omitempty" doc:"how long the ids of messages are remembered"`

	Type         string     `json:"type,omitempty" enum:"stream" doc:"a stream keeps its messages, whoever reads them"`
	MaxPriority  uint8      `json:"max_priority,omitempty" doc:"the highest priority that is told apart, up to 9"`
	MessageTTL   Millis     `json:"message_ttl_ms,omitempty" doc:"a message that gets older is dead-lettered, or dropped without a dead letter"`
	Expires      Millis     `json:"expires_ms,omitempty" doc:"the queue is deleted after so long without consumers"`
	MaxLength    int64      `json:"max_length,omitempty" doc:"messages at most"`
	MaxBytes     int64      `json:"max_bytes,omitempty" doc:"bytes of bodies at most"`
	Overflow     string     `json:"overflow,omitempty" enum:"reject,drop_head" doc:"what a full queue does; reject without it"`
	SingleActive bool       `json:"single_active,omitempty" doc:"one consumer at a time, the others stand by"`
	Exclusive    bool       `json:"exclusive,omitempty" doc:"for the connection that declares it, and gone with it"`
	AutoDelete   bool       `json:"auto_delete,omitempty" doc:"deleted when the last consumer leaves"`
	Retention    *Retention `json:"retention,omitempty" doc:"what a stream keeps"`
}

// Retention bounds a stream: the oldest messages go first.
type Retention struct {
	Age      Millis `json:"age_ms,omitempty"`
	Messages int64  `json:"messages,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
}

// Backoff doubles from min to max.
type Backoff struct {
	Min Millis `json:"min_ms,omitempty"`
	Max Millis `json:"max_ms,omitempty"`
}

// Binding sends what an exchange gets, and matches, to a queue or to another
// exchange.
type Binding struct {
	Exchange   string  `json:"exchange"`
	Queue      string  `json:"queue,omitempty"`
	ToExchange string  `json:"to_exchange,omitempty" doc:"instead of queue: routes on from there"`
	Key        string  `json:"key,omitempty"`
	Args       Headers `json:"args,omitempty"`
}

// Change is one difference.
type Change struct {
	Action string `json:"action"`
	What   string `json:"what" doc:"exchange, queue or binding"`
	Name   string `json:"name"`
}

// TopologyReply says what a PUT changed, or would change.
type TopologyReply struct {
	Changes []Change `json:"changes"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// NewTopology is the wire form of t.
func NewTopology(t *queuedriver.Topology) *Topology {
	out := &Topology{}
	for _, e := range t.Exchanges {
		out.Exchanges = append(out.Exchanges, Exchange{Name: e.Name, Kind: string(e.Kind), Alternate: e.Alternate})
	}
	for _, q := range t.Queues {
		w := Queue{Name: q.Name, Lease: LeaseMillis(q.Lease), DeliveryLimit: q.DeliveryLimit, DedupWindow: Ceil(q.DedupWindow),
			Type: string(q.Type), MaxPriority: q.MaxPriority, MessageTTL: Ceil(q.MessageTTL), Expires: Ceil(q.Expires), MaxLength: q.MaxLength, MaxBytes: q.MaxBytes,
			Overflow: string(q.Overflow), SingleActive: q.SingleActive, Exclusive: q.Exclusive, AutoDelete: q.AutoDelete}
		if r := q.Retention; r != (queuedriver.Retention{}) {
			w.Retention = &Retention{Age: Ceil(r.Age), Messages: r.Messages, Bytes: r.Bytes}
		}
		if q.DeadLetter != nil {
			w.DeadLetter = &Route{Exchange: q.DeadLetter.Exchange, Key: q.DeadLetter.Key}
		}
		if q.Backoff != (queuedriver.Backoff{}) {
			w.Backoff = &Backoff{Min: Ceil(q.Backoff.Min), Max: Ceil(q.Backoff.Max)}
		}
		out.Queues = append(out.Queues, w)
	}
	for _, b := range t.Bindings {
		out.Bindings = append(out.Bindings, Binding{Exchange: b.Exchange, Queue: b.Queue, ToExchange: b.ToExchange, Key: b.Key, Args: Headers(b.Args)})
	}
	return out
}

// Driver is the inverse of NewTopology, not validated.
func (t *Topology) Driver() *queuedriver.Topology {
	out := &queuedriver.Topology{}
	for _, e := range t.Exchanges {
		out.Exchanges = append(out.Exchanges, queuedriver.Exchange{Name: e.Name, Kind: queuedriver.Kind(e.Kind), Alternate: e.Alternate})
	}
	for _, q := range t.Queues {
		d := queuedriver.Queue{Name: q.Name, Lease: q.Lease.Duration(), DeliveryLimit: q.DeliveryLimit, DedupWindow: q.DedupWindow.Duration(),
			Type: queuedriver.QueueType(q.Type), MaxPriority: q.MaxPriority, MessageTTL: q.MessageTTL.Duration(), Expires: q.Expires.Duration(),
			MaxLength: q.MaxLength, MaxBytes: q.MaxBytes, Overflow: queuedriver.Overflow(q.Overflow),
			SingleActive: q.SingleActive, Exclusive: q.Exclusive, AutoDelete: q.AutoDelete}
		if r := q.Retention; r != nil {
			d.Retention = queuedriver.Retention{Age: r.Age.Duration(), Messages: r.Messages, Bytes: r.Bytes}
		}
		if q.DeadLetter != nil {
			d.DeadLetter = &queuedriver.Route{Exchange: q.DeadLetter.Exchange, Key: q.DeadLetter.Key}
		}
		if q.Backoff != nil {
			d.Backoff = queuedriver.Backoff{Min: q.Backoff.Min.Duration(), Max: q.Backoff.Max.Duration()}
		}
		out.Queues = append(out.Queues, d)
	}
	for _, b := range t.Bindings {
		out.Bindings = append(out.Bindings, queuedriver.Binding{Exchange: b.Exchange, Queue: b.Queue, ToExchange: b.ToExchange, Key: b.Key, Args: queuedriver.Headers(b.Args)})
	}
	return out
}
