package wire

import (
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// ReceiveRequest leases messages: POST /v1/receive.
type ReceiveRequest struct {
	Queue     string `json:"queue"`
	Consumer  string `json:"consumer,omitempty" doc:"who receives; anonymous without it"`
	Max       int    `json:"max,omitempty" doc:"at most so many messages, 1 to 1000; 1 without it"`
	MaxBytes  int    `json:"max_bytes,omitempty" doc:"stop after the message that reaches it"`
	Wait      Millis `json:"wait_ms,omitempty" doc:"how long to wait for the first, at most 300000"`
	Lease     Millis `json:"lease_ms,omitempty" doc:"the queue's without it"`
	ReceiveID string `json:"receive_id,omitempty" doc:"names this call for /v1/receive/cancel: 1 to 128 bytes, unique"`
}

// AnonymousConsumer is who receives when nobody is named.
const AnonymousConsumer = "anonymous"

// Driver returns what a driver is asked.
func (r *ReceiveRequest) Driver() *queuedriver.ReceiveRequest {
	out := &queuedriver.ReceiveRequest{
		Queue: r.Queue, Consumer: r.Consumer, Max: r.Max, MaxBytes: r.MaxBytes,
		Wait: r.Wait.Duration(), Lease: r.Lease.Duration(),
	}
	if out.Consumer == "" {
		out.Consumer = AnonymousConsumer
	}
	if out.Max == 0 {
		out.Max = 1
	}
	return out
}

// ReceiveReply has the deliveries in queue order; none if none came in time.
type ReceiveReply struct {
	Deliveries []Delivery `json:"deliveries"`
	Ended      bool       `json:"ended,omitempty" doc:"before its time, by a cancel or a detach"`
}

// CancelReceiveRequest ends a waiting receive: POST /v1/receive/cancel. It is
// success if there is none: its answer is on the way.
type CancelReceiveRequest struct {
	ReceiveID string `json:"receive_id"`
}

// Delivery is one leased message.
type Delivery struct {
	Delivery string      `json:"delivery" doc:"the handle to settle it by"`
	Queue    string      `json:"queue"`
	Seq      uint64      `json:"seq,string" doc:"the message within its queue"`
	Token    lease.Token `json:"token" doc:"fencing token"`
	Attempt  int         `json:"attempt" doc:"1 at first"`
	Lease    Millis      `json:"lease_ms" doc:"settle or extend it within; ttl_ms is the message's own"`
	Waited   Millis      `json:"waited_ms" doc:"from the receipt of the request to the moment from which lease_ms counts"`
	Age      Millis      `json:"age_ms" doc:"since it was published"`
	Exchange string      `json:"exchange"`
	Key      string      `json:"key"`
	Message
}

// NewDelivery is the wire form of d.
func NewDelivery(d *queuedriver.Delivery) Delivery {
	return Delivery{
		Delivery: EncodeHandle(d.Ref), Queue: d.Queue, Seq: d.Seq, Token: d.Token, Attempt: d.Attempt,
		Lease: LeaseMillis(d.TTL), Waited: Floor(d.Waited), Age: Floor(d.Age),
		Exchange: d.Route.Exchange, Key: d.Route.Key, Message: NewMessage(d.Message),
	}
}

// Driver is the inverse of NewDelivery.
func (d *Delivery) Driver() (queuedriver.Delivery, error) {
	m, err := d.Message.Driver("")
	if err != nil {
		return queuedriver.Delivery{}, err
	}
	return queuedriver.Delivery{
		Ref:     queuedriver.Ref{Queue: d.Queue, Seq: d.Seq, Token: d.Token},
		Message: m, Route: queuedriver.Route{Exchange: d.Exchange, Key: d.Key}, Attempt: d.Attempt,
		TTL: d.Lease.Duration(), Waited: d.Waited.Duration(), Age: d.Age.Duration(),
	}, nil
}

// SettleRequest settles deliveries: POST /v1/settle. All handles are checked
// before any delivery is settled.
type SettleRequest struct {
	Ack     []string `json:"ack,omitempty" doc:"handled: gone for good"`
	Nack    []Nack   `json:"nack,omitempty" doc:"failed: again later, or dead-lettered past the limit"`
	Release []string `json:"release,omitempty" doc:"not handled: back to where it was; no attempt"`
	Reject  []Reject `json:"reject,omitempty" doc:"never again: dead-lettered"`
	Extend  []Extend `json:"extend,omitempty" doc:"lease anew"`
}

// Nack is one failed delivery.
type Nack struct {
	Delivery string `json:"delivery"`
	Delay    Millis `json:"delay_ms,omitempty"`
	Backoff  bool   `json:"backoff,omitempty" doc:"the queue's backoff instead of delay_ms"`
	Reason   string `json:"reason,omitempty"`
}

// Reject is one delivery that is not to come again.
type Reject struct {
	Delivery string `json:"delivery"`
	Reason   string `json:"reason,omitempty"`
}

// Extend is one delivery that takes longer.
type Extend struct {
	Delivery string `json:"delivery"`
	Lease    Millis `json:"lease_ms,omitempty" doc:"the delivery's own without it"`
}

// Verbs in the order in which outcomes are listed.
var Verbs = []string{"ack", "nack", "release", "reject", "extend"}

// Driver returns the settlements in the order of Verbs.
func (r *SettleRequest) Driver() ([]queuedriver.Settlement, error) {
	var out []queuedriver.Settlement
	var failed error
	add := func(list string, i int, handle string, s queuedriver.Settlement) {
		ref, err := DecodeHandle(Indexed(list, i), handle)
		if err != nil && failed == nil {
			failed = err
		}
		s.Ref = ref
		out = append(out, s)
	}
	for i, h := range r.Ack {
		add("ack", i, h, queuedriver.Settlement{Verb: queuedriver.Ack})
	}
	for i, n := range r.Nack {
		add("nack", i, n.Delivery, queuedriver.Settlement{Verb: queuedriver.Nack, Delay: n.Delay.Duration(), Backoff: n.Backoff, Reason: n.Reason})
	}
	for i, h := range r.Release {
		add("release", i, h, queuedriver.Settlement{Verb: queuedriver.Release})
	}
	for i, n := range r.Reject {
		add("reject", i, n.Delivery, queuedriver.Settlement{Verb: queuedriver.Reject, Reason: n.Reason})
	}
	for i, e := range r.Extend {
		add("extend", i, e.Delivery, queuedriver.Settlement{Verb: queuedriver.Extend, TTL: e.Lease.Duration()})
	}
	return out, failed
}

// NewSettleRequest is the inverse of Driver. order says for each outcome of
// the reply which of ss it is of: the wire groups them by verb.
func NewSettleRequest(ss []queuedriver.Settlement) (r *SettleRequest, order []int) {
	r = &SettleRequest{}
	for verb := queuedriver.Ack; verb <= queuedriver.Extend; verb++ {
		for i := range ss {
			s := &ss[i]
			if s.Verb != verb {
				continue
			}
			order = append(order, i)
			h := EncodeHandle(s.Ref)
			switch verb {
			case queuedriver.Ack:
				r.Ack = append(r.Ack, h)
			case queuedriver.Nack:
				r.Nack = append(r.Nack, Nack{Delivery: h, Delay: Ceil(s.Delay), Backoff: s.Backoff, Reason: s.Reason})
			case queuedriver.Release:
				r.Release = append(r.Release, h)
			case queuedriver.Reject:
				r.Reject = append(r.Reject, Reject{Delivery: h, Reason: s.Reason})
			case queuedriver.Extend:
				r.Extend = append(r.Extend, Extend{Delivery: h, Lease: LeaseMillis(s.TTL)})
			}
		}
	}
	return r, order
}

// SettleOutcome is what became of one delivery.
type SettleOutcome struct {
	Delivery     string   `json:"delivery"`
	Verb         string   `json:"verb" enum:"ack,nack,release,reject,extend"`
	Lease        Millis   `json:"lease_ms,omitempty" doc:"after extend"`
	DeadLettered bool     `json:"dead_lettered,omitempty"`
	Error        *Problem `json:"error,omitempty"`
}

// SettleReply has an outcome for each delivery: those of ack first, then of
// nack, release, reject and extend, each in the order of the request.
type SettleReply struct {
	Failed   int             `json:"failed" doc:"how many outcomes have an error"`
	Outcomes []SettleOutcome `json:"outcomes"`
}

// DetachRequest says that a consumer is gone: POST /v1/detach.
type DetachRequest struct {
	Queue    string `json:"queue"`
	Consumer string `json:"consumer"`
}

// PurgeRequest drops what is not in flight: POST /v1/purge.
type PurgeRequest struct {
	Queue string `json:"queue"`
}

// PurgeReply says how many messages were dropped.
type PurgeReply struct {
	Purged int64 `json:"purged"`
}

// RedriveRequest moves dead letters: POST /v1/redrive.
type RedriveRequest struct {
	Queue string `json:"queue" doc:"where the dead letters are"`
	To    *Route `json:"to,omitempty" doc:"each to where it was first published without it"`
	Max   int    `json:"max,omitempty" doc:"1 to 10000"`
}

// RedriveReply says how many messages were moved.
type RedriveReply struct {
	Redriven int64 `json:"redriven"`
}

// QueuesReply is an answer to GET /v1/queues.
type QueuesReply struct {
	Queues []QueueStats `json:"queues"`
	Next   string       `json:"next,omitempty" doc:"pass it as after to continue"`
}

// QueueStats describes a queue. Counters count since it was declared.
type QueueStats struct {
	Name         string `json:"name"`
	Ready        int64  `json:"ready"`
	Delayed      int64  `json:"delayed"`
	InFlight     int64  `json:"in_flight"`
	Bytes        int64  `json:"bytes"`
	OldestAge    Millis `json:"oldest_age_ms"`
	Consumers    int    `json:"consumers"`
	Waiting      int    `json:"waiting" doc:"receives that wait for messages"`
	Active       string `json:"active,omitempty" doc:"the active consumer of a queue that has one at a time"`
	Published    int64  `json:"published"`
	Duplicates   int64  `json:"duplicates"`
	Delivered    int64  `json:"delivered"`
	Acked        int64  `json:"acked"`
	Nacked       int64  `json:"nacked"`
	Expired      int64  `json:"expired"`
	DeadLettered int64  `json:"dead_lettered"`
	Dropped      int64  `json:"dropped"`
	TimedOut     int64  `json:"timed_out" doc:"messages that became older than their TTL"`
	Overflowed   int64  `json:"overflowed" doc:"dropped from the head of the full queue"`
	Refused      int64  `json:"refused" doc:"publishes refused because it was full"`
}

// NewQueueStats is the wire form of s.
func NewQueueStats(s *queuedriver.QueueStats) QueueStats {
	return QueueStats{
		Name: s.Name, Ready: s.Ready, Delayed: s.Delayed, InFlight: s.InFlight, Bytes: s.Bytes,
		OldestAge: Floor(s.OldestAge), Consumers: s.Consumers, Waiting: s.Waiting, Active: s.Active,
		Published: s.Published, Duplicates: s.Duplicates, Delivered: s.Delivered, Acked: s.Acked, Nacked: s.Nacked,
		Expired: s.Expired, DeadLettered: s.DeadLettered, Dropped: s.Dropped,
		TimedOut: s.TimedOut, Overflowed: s.Overflowed, Refused: s.Refused,
	}
}

// Driver is the inverse of NewQueueStats.
func (s *QueueStats) Driver() queuedriver.QueueStats {
	return queuedriver.QueueStats{
		Name: s.Name, Ready: s.Ready, Delayed: s.Delayed, InFlight: s.InFlight, Bytes: s.Bytes,
		OldestAge: s.OldestAge.Duration(), Consumers: s.Consumers, Waiting: s.Waiting, Active: s.Active,
		Published: s.Published, Duplicates: s.Duplicates, Delivered: s.Delivered, Acked: s.Acked, Nacked: s.Nacked,
		Expired: s.Expired, DeadLettered: s.DeadLettered, Dropped: s.Dropped,
		TimedOut: s.TimedOut, Overflowed: s.Overflowed, Refused: s.Refused,
	}
}

// MessagesReply is an answer to GET /v1/messages.
type MessagesReply struct {
	Messages []Peeked `json:"messages"`
}

// Peeked is a message as it lies in its queue.
type Peeked struct {
	Seq      uint64 `json:"seq,string" doc:"pass the last one as after to continue; 0: has no place yet"`
	State    string `json:"state" enum:"ready,delayed,in_flight"`
	Attempts int    `json:"attempts"`
	Age      Millis `json:"age_ms"`
	Exchange string `json:"exchange"`
	Key      string `json:"key"`
	Message
}

// NewPeeked is the wire form of p.
func NewPeeked(p *queuedriver.Peeked) Peeked {
	return Peeked{
		Seq: p.Seq, State: string(p.State), Attempts: p.Attempts, Age: Floor(p.Age),
		Exchange: p.Route.Exchange, Key: p.Route.Key, Message: NewMessage(p.Message),
	}
}

// Driver is the inverse of NewPeeked.
func (p *Peeked) Driver() (queuedriver.Peeked, error) {
	m, err := p.Message.Driver("")
	return queuedriver.Peeked{
		Seq: p.Seq, State: queuedriver.State(p.State), Attempts: p.Attempts, Age: p.Age.Duration(),
		Route: queuedriver.Route{Exchange: p.Exchange, Key: p.Key}, Message: m,
	}, err
}
