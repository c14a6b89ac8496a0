package frame

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// AppendPublish appends messages to be published.
func AppendPublish(b []byte, ps []queuedriver.Publishing) []byte {
	size := 0
	for i := range ps {
		size += PublishingSize(&ps[i])
	}
	b, m := begin(b, Publish, size)
	for i := range ps {
		p := &ps[i]
		var e, me mark
		b, e = open(b, 1, PublishingSize(p))
		b = appendString(b, 1, p.Route.Exchange)
		b = appendString(b, 2, p.Route.Key)
		b = appendBool(b, 3, p.Mandatory)
		b, me = open(b, 4, len(p.Message.Body)+64)
		b = appendMessage(b, p.Message)
		b = shut(shut(b, me), e)
	}
	return shut(b, m)
}

// PublishingSize is about how many bytes a publishing takes, without its
// headers.
func PublishingSize(p *queuedriver.Publishing) int {
	return len(p.Message.Body) + len(p.Route.Exchange) + len(p.Route.Key) + len(p.Message.ID) + 64
}

// PublishingCost is at most how many bytes a publishing takes, and how many
// items of a batch it is.
func PublishingCost(p *queuedriver.Publishing) (bytes, items int) {
	m := p.Message
	bytes = PublishingSize(p) + len(m.OrderKey) + len(m.ContentType) + len(m.ContentEncoding) +
		len(m.CorrelationID) + len(m.ReplyTo) + len(m.Type) + len(m.AppID) + len(m.UserID) + 96
	items = 1
	tableCost(m.Headers, &bytes, &items)
	return bytes, items
}

// ParsePublish reads a publish and appends what is in it to ps. The bodies
// alias the input. items counts what the batch has.
func ParsePublish(body []byte, ps []queuedriver.Publishing, items *int) ([]queuedriver.Publishing, error) {
	r := reader{b: body, what: "publish", items: items}
	begin := len(ps)
	var last queuedriver.Route
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(ps)-begin, queuedriver.MaxBatch, "messages") {
			break
		}
		n := r.nested("publishing")
		var p queuedriver.Publishing
		for n.next() {
			switch n.num {
			case 1:
				p.Route.Exchange = n.again(last.Exchange)
			case 2:
				p.Route.Key = n.again(last.Key)
			case 3:
				p.Mandatory = n.bool()
			case 4:
				if p.Message == nil {
					p.Message = &queuedriver.Message{}
				}
				n.message(p.Message)
			default:
				n.unknown()
			}
		}
		if p.Message == nil { // empty is as good as left out
			p.Message = &queuedriver.Message{}
		}
		r.adopt(n.err)
		last = p.Route
		ps = append(ps, p)
	}
	return ps, r.err
}

// AppendReceipts appends what became of messages.
func AppendReceipts(b []byte, rs []queuedriver.Receipt) []byte {
	b, m := begin(b, Receipts, 14*len(rs))
	for i := range rs {
		var e mark
		b, e = open(b, 1, 16)
		b = appendError(b, 1, rs[i].Err)
		b = appendString(b, 2, string(rs[i].Durability))
		b = appendInt(b, 3, int64(rs[i].Queues))
		b = appendBool(b, 4, rs[i].Duplicate)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseReceipts reads what became of messages; n is how many it is about.
func ParseReceipts(body []byte, n int) ([]queuedriver.Receipt, error) {
	r := reader{b: body, what: "receipts", lenient: true}
	out := make([]queuedriver.Receipt, 0, n)
	var last string
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(out), n, "receipts") {
			break
		}
		e := r.nested("receipt")
		var rc queuedriver.Receipt
		for e.next() {
			switch e.num {
			case 1:
				rc.Err = e.error()
			case 2:
				last = e.again(last)
				rc.Durability = queuedriver.Durability(last)
			case 3:
				rc.Queues = e.small()
			case 4:
				rc.Duplicate = e.bool()
			default:
				e.unknown()
			}
		}
		r.adopt(e.err)
		out = append(out, rc)
	}
	return out, r.err
}

// AppendReceive appends a receive. Request.Max is the credit that it begins
// with. With keep it goes on until it is cancelled; otherwise it ends with its
// first deliveries, or when Request.Wait has passed without any.
func AppendReceive(b []byte, q *queuedriver.ReceiveRequest, keep bool) []byte {
	b, m := begin(b, Receive, len(q.Queue)+len(q.Consumer)+32)
	b = appendString(b, 1, q.Queue)
	b = appendString(b, 2, q.Consumer)
	b = appendInt(b, 3, int64(q.Max))
	b = appendInt(b, 4, int64(q.MaxBytes))
	b = appendDuration(b, 5, q.Wait)
	b = appendDuration(b, 6, q.Lease)
	b = appendBool(b, 7, keep)
	return shut(b, m)
}

// ParseReceive reads a receive.
func ParseReceive(body []byte) (q *queuedriver.ReceiveRequest, keep bool, err error) {
	r := reader{b: body, what: "receive"}
	q = &queuedriver.ReceiveRequest{}
	for r.next() {
		switch r.num {
		case 1:
			q.Queue = r.string()
		case 2:
			q.Consumer = r.string()
		case 3:
			q.Max = r.small()
		case 4:
			q.MaxBytes = r.small()
		case 5:
			q.Wait = r.duration()
		case 6:
			q.Lease = r.duration()
		case 7:
			keep = r.bool()
		default:
			r.unknown()
		}
	}
	return q, keep, r.err
}

// DeliveriesSize is about how many bytes deliveries take, without headers.
func DeliveriesSize(ds []queuedriver.Delivery) int {
	size := 64
	for i := range ds {
		size += len(ds[i].Message.Body) + len(ds[i].Message.ID) + 160
	}
	return size
}

// AppendDeliveries appends deliveries of one queue. more says that the receive
// goes on.
func AppendDeliveries(b []byte, ds []queuedriver.Delivery, more bool) []byte {
	b, m := begin(b, Deliveries, DeliveriesSize(ds))
	b = appendBool(b, 1, more)
	if len(ds) > 0 {
		b = appendString(b, 2, ds[0].Queue)
	}
	for i := range ds {
		d := &ds[i]
		var e, me mark
		b, e = open(b, 3, len(d.Message.Body)+128)
		b = appendUint(b, 1, d.Seq)
		b = appendUint(b, 2, uint64(d.Token))
		b, me = open(b, 3, len(d.Message.Body)+64)
		b = shut(appendMessage(b, d.Message), me)
		b = appendString(b, 4, d.Route.Exchange)
		b = appendString(b, 5, d.Route.Key)
		b = appendInt(b, 6, int64(d.Attempt))
		b = appendDuration(b, 7, d.TTL)
		b = appendDuration(b, 8, d.Waited)
		b = appendDuration(b, 9, d.Age)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseDeliveries reads deliveries.
func ParseDeliveries(body []byte) (ds []queuedriver.Delivery, more bool, err error) {
	r := reader{b: body, what: "deliveries", lenient: true}
	var queue string
	var last queuedriver.Route
	for r.next() {
		switch r.num {
		case 1:
			more = r.bool()
		case 2:
			queue = r.string()
		case 3:
			if !r.item(len(ds), queuedriver.MaxReceive, "deliveries") {
				return ds, more, r.err
			}
			ds = append(ds, r.delivery(&last))
		default:
			r.unknown()
		}
	}
	for i := range ds {
		ds[i].Queue = queue
	}
	return ds, more, r.err
}

func (r *reader) delivery(last *queuedriver.Route) queuedriver.Delivery {
	n := r.nested("delivery")
	d := queuedriver.Delivery{Message: &queuedriver.Message{}}
	for n.next() {
		switch n.num {
		case 1:
			d.Seq = n.uint()
		case 2:
			d.Token = lease.Token(n.uint())
		case 3:
			n.message(d.Message)
			// Whoever keeps one message must not keep the whole batch.
			d.Message.Body = append([]byte(nil), d.Message.Body...)
		case 4:
			d.Route.Exchange = n.again(last.Exchange)
		case 5:
			d.Route.Key = n.again(last.Key)
		case 6:
			d.Attempt = n.small()
		case 7:
			d.TTL = n.duration()
		case 8:
			d.Waited = n.duration()
		case 9:
			d.Age = n.duration()
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
	*last = d.Route
	return d
}

// AppendSettle appends settlements.
func AppendSettle(b []byte, ss []queuedriver.Settlement) []byte {
	b, m := begin(b, Settle, 40*len(ss))
	for i := range ss {
		s := &ss[i]
		var e mark
		b, e = open(b, 1, 32)
		b = appendString(b, 1, s.Ref.Queue)
		b = appendUint(b, 2, s.Ref.Seq)
		b = appendUint(b, 3, uint64(s.Ref.Token))
		b = appendUint(b, 4, uint64(s.Verb))
		b = appendDuration(b, 5, s.Delay)
		b = appendBool(b, 6, s.Backoff)
		b = appendString(b, 7, s.Reason)
		b = appendDuration(b, 8, s.TTL)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseSettle reads settlements and appends them to ss. items counts what the
// batch has.
func ParseSettle(body []byte, ss []queuedriver.Settlement, items *int) ([]queuedriver.Settlement, error) {
	r := reader{b: body, what: "settle", items: items}
	begin, queue := len(ss), ""
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(ss)-begin, queuedriver.MaxBatch, "settlements") {
			break
		}
		n := r.nested("settlement")
		var s queuedriver.Settlement
		for n.next() {
			switch n.num {
			case 1:
				queue = n.again(queue)
				s.Ref.Queue = queue
			case 2:
				s.Ref.Seq = n.uint()
			case 3:
				s.Ref.Token = lease.Token(n.uint())
			case 4:
				s.Verb = queuedriver.Verb(min(n.uint(), math.MaxUint8))
			case 5:
				s.Delay = n.duration()
			case 6:
				s.Backoff = n.bool()
			case 7:
				s.Reason = n.string()
			case 8:
				s.TTL = n.duration()
			default:
				n.unknown()
			}
		}
		r.adopt(n.err)
		ss = append(ss, s)
	}
	return ss, r.err
}

// AppendSettled appends the outcomes of settlements.
func AppendSettled(b []byte, outcomes []queuedriver.Outcome) []byte {
	b, m := begin(b, Settled, 4*len(outcomes))
	for i := range outcomes {
		var e mark
		b, e = open(b, 1, 8)
		b = appendError(b, 1, outcomes[i].Err)
		b = appendDuration(b, 2, outcomes[i].TTL)
		b = appendBool(b, 3, outcomes[i].DeadLettered)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseSettled reads the outcomes of n settlements.
func ParseSettled(body []byte, n int) ([]queuedriver.Outcome, error) {
	r := reader{b: body, what: "settled", lenient: true}
	out := make([]queuedriver.Outcome, 0, n)
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(out), n, "outcomes") {
			break
		}
		e := r.nested("outcome")
		var o queuedriver.Outcome
		for e.next() {
			switch e.num {
			case 1:
				o.Err = e.error()
			case 2:
				o.TTL = e.duration()
			case 3:
				o.DeadLettered = e.bool()
			default:
				e.unknown()
			}
		}
		r.adopt(e.err)
		out = append(out, o)
	}
	return out, r.err
}

// Greeting is what a server says first: a hello.
type Greeting struct {
	Service      string // wire.Service
	Version      string // of the daemon
	Capabilities []byte // JSON, as GET /v1/capabilities answers

	MaxBatch     int
	MaxFrames    int
	MaxItems     int
	MaxCalls     int
	MaxWaits     int
	MaxCallBytes int
	MaxCredit    int
	SilenceBusy  time.Duration
	SilenceIdle  time.Duration
}

// AppendHello appends a hello. Its id is 0.
func AppendHello(b []byte, g *Greeting) []byte {
	b, m := begin(b, Hello, len(g.Capabilities)+64)
	b = appendString(b, 1, g.Service)
	b = appendString(b, 2, g.Version)
	b = appendBytes(b, 3, g.Capabilities)
	for i, n := range []int{g.MaxBatch, g.MaxFrames, g.MaxItems, g.MaxCalls, g.MaxWaits, g.MaxCallBytes, g.MaxCredit} {
		b = appendInt(b, protowire.Number(4+i), int64(n))
	}
	b = appendDuration(b, 11, g.SilenceBusy)
	b = appendDuration(b, 12, g.SilenceIdle)
	return shut(b, m)
}

// ParseHello reads a hello.
func ParseHello(body []byte) (*Greeting, error) {
	r, g := reader{b: body, what: "hello", lenient: true}, &Greeting{}
	limits := []*int{&g.MaxBatch, &g.MaxFrames, &g.MaxItems, &g.MaxCalls, &g.MaxWaits, &g.MaxCallBytes, &g.MaxCredit}
	for r.next() {
		switch {
		case r.num == 1:
			g.Service = r.string()
		case r.num == 2:
			g.Version = r.string()
		case r.num == 3:
			g.Capabilities = append([]byte(nil), r.bytes()...)
		case r.num >= 4 && int(r.num) < 4+len(limits):
			*limits[r.num-4] = r.small()
		case r.num == 11:
			g.SilenceBusy = r.duration()
		case r.num == 12:
			g.SilenceIdle = r.duration()
		default:
			r.unknown()
		}
	}
	return g, r.err
}
