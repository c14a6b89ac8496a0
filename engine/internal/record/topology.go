package record

import (
	"math"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// AppendExchange appends the encoding of e.
func AppendExchange(b []byte, e *queuedriver.Exchange) []byte {
	b = append(b, version)
	return appendString(appendString(b, e.Name), string(e.Kind))
}

// DecodeExchange is the inverse of AppendExchange.
func DecodeExchange(b []byte) (*queuedriver.Exchange, error) {
	d := decode("exchange", b)
	e := &queuedriver.Exchange{Name: d.string("name"), Kind: queuedriver.Kind(d.string("kind"))}
	if err := d.done(); err != nil {
		return nil, err
	}
	return e, nil
}

// AppendQueue appends the encoding of q.
func AppendQueue(b []byte, q *Queue) []byte {
	b = append(b, version)
	b = appendUint(b, uint64(q.ID))
	s := &q.Spec
	b = appendString(b, s.Name)
	b = appendInt(b, int64(s.Lease))
	b = appendUint(b, uint64(s.DeliveryLimit))
	b = appendBool(b, s.DeadLetter != nil)
	if s.DeadLetter != nil {
		b = appendString(appendString(b, s.DeadLetter.Exchange), s.DeadLetter.Key)
	}
	b = appendInt(b, int64(s.Backoff.Min))
	b = appendInt(b, int64(s.Backoff.Max))
	return appendInt(b, int64(s.DedupWindow))
}

// DecodeQueue is the inverse of AppendQueue.
func DecodeQueue(b []byte) (*Queue, error) {
	d := decode("queue", b)
	q := &Queue{ID: d.uint32("id")}
	s := &q.Spec
	s.Name = d.string("name")
	s.Lease = d.duration("lease")
	s.DeliveryLimit = int(d.uintTo("delivery_limit", math.MaxInt32))
	if d.bool("dead_letter") {
		s.DeadLetter = &queuedriver.Route{Exchange: d.string("dead_letter.exchange"), Key: d.string("dead_letter.key")}
	}
	s.Backoff.Min = d.duration("backoff.min")
	s.Backoff.Max = d.duration("backoff.max")
	s.DedupWindow = d.duration("dedup_window")
	if err := d.done(); err != nil {
		return nil, err
	}
	return q, nil
}

// AppendBinding appends the encoding of x. Equal bindings have equal encodings.
func AppendBinding(b []byte, x *queuedriver.Binding) []byte {
	b = append(b, version)
	b = appendString(b, x.Exchange)
	b = appendString(b, x.Queue)
	b = appendString(b, x.Key)
	return appendHeaders(b, x.Args)
}

// DecodeBinding is the inverse of AppendBinding.
func DecodeBinding(b []byte) (*queuedriver.Binding, error) {
	d := decode("binding", b)
	x := &queuedriver.Binding{Exchange: d.string("exchange"), Queue: d.string("queue"), Key: d.string("key")}
	if h := d.headers("args", 1); len(h) > 0 {
		x.Args = h
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return x, nil
}
