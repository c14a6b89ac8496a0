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
}

// Queue keeps messages until they are acked.
type Queue struct {
	Name          string   `json:"name"`
	Lease         Millis   `json:"lease_ms,omitempty" doc:"of a delivery; 30000 without it"`
	DeliveryLimit int      `json:"delivery_limit,omitempty" doc:"failed attempts before a message is dead-lettered"`
	DeadLetter    *Route   `json:"dead_letter,omitempty" doc:"where rejected and exhausted messages go"`
	Backoff       *Backoff `json:"backoff,omitempty" doc:"delay before another attempt"`
	DedupWindow   Millis   `json:"dedup_window_ms,omitempty" doc:"how long the ids of messages are remembered"`
}

// Backoff doubles from min to max.
type Backoff struct {
	Min Millis `json:"min_ms,omitempty"`
	Max Millis `json:"max_ms,omitempty"`
}

// Binding sends what an exchange gets, and matches, to a queue.
type Binding struct {
	Exchange string  `json:"exchange"`
	Queue    string  `json:"queue"`
	Key      string  `json:"key,omitempty"`
	Args     Headers `json:"args,omitempty"`
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
		out.Exchanges = append(out.Exchanges, Exchange{Name: e.Name, Kind: string(e.Kind)})
	}
	for _, q := range t.Queues {
		w := Queue{Name: q.Name, Lease: LeaseMillis(q.Lease), DeliveryLimit: q.DeliveryLimit, DedupWindow: Ceil(q.DedupWindow)}
		if q.DeadLetter != nil {
			w.DeadLetter = &Route{Exchange: q.DeadLetter.Exchange, Key: q.DeadLetter.Key}
		}
		if q.Backoff != (queuedriver.Backoff{}) {
			w.Backoff = &Backoff{Min: Ceil(q.Backoff.Min), Max: Ceil(q.Backoff.Max)}
		}
		out.Queues = append(out.Queues, w)
	}
	for _, b := range t.Bindings {
		out.Bindings = append(out.Bindings, Binding{Exchange: b.Exchange, Queue: b.Queue, Key: b.Key, Args: Headers(b.Args)})
	}
	return out
}

// Driver is the inverse of NewTopology, not validated.
func (t *Topology) Driver() *queuedriver.Topology {
	out := &queuedriver.Topology{}
	for _, e := range t.Exchanges {
		out.Exchanges = append(out.Exchanges, queuedriver.Exchange{Name: e.Name, Kind: queuedriver.Kind(e.Kind)})
	}
	for _, q := range t.Queues {
		d := queuedriver.Queue{Name: q.Name, Lease: q.Lease.Duration(), DeliveryLimit: q.DeliveryLimit, DedupWindow: q.DedupWindow.Duration()}
		if q.DeadLetter != nil {
			d.DeadLetter = &queuedriver.Route{Exchange: q.DeadLetter.Exchange, Key: q.DeadLetter.Key}
		}
		if q.Backoff != nil {
			d.Backoff = queuedriver.Backoff{Min: q.Backoff.Min.Duration(), Max: q.Backoff.Max.Duration()}
		}
		out.Queues = append(out.Queues, d)
	}
	for _, b := range t.Bindings {
		out.Bindings = append(out.Bindings, queuedriver.Binding{Exchange: b.Exchange, Queue: b.Queue, Key: b.Key, Args: queuedriver.Headers(b.Args)})
	}
	return out
}
