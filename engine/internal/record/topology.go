package record

import (
	"math"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// AppendExchange appends the encoding of e.
func AppendExchange(b []byte, e *queuedriver.Exchange) []byte {
	if e.Alternate == "" {
		b = append(b, version)
		return appendString(appendString(b, e.Name), string(e.Kind))
	}
	b = append(b, version2)
	b = appendString(appendString(b, e.Name), string(e.Kind))
	return appendString(b, e.Alternate)
}

// DecodeExchange is the inverse of AppendExchange.
func DecodeExchange(b []byte) (*queuedriver.Exchange, error) {
	d, v := decodeUpTo(version2, "exchange", b)
	e := &queuedriver.Exchange{Name: d.string("name"), Kind: queuedriver.Kind(d.string("kind"))}
	if v == version2 {
		if e.Alternate = d.string("alternate"); e.Alternate == "" {
			d.failf("version", "is 2 without need")
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return e, nil
}

// AppendQueue appends the encoding of q.
func AppendQueue(b []byte, q *Queue) []byte {
	s := &q.Spec
	policy := policyMask(s)
	v := byte(version)
	if policy != 0 {
		v = version2
	}
	b = append(b, v)
	b = appendUint(b, uint64(q.ID))
	b = appendString(b, s.Name)
	b = appendInt(b, int64(s.Lease))
	b = appendUint(b, uint64(s.DeliveryLimit))
	b = appendBool(b, s.DeadLetter != nil)
	if s.DeadLetter != nil {
		b = appendString(appendString(b, s.DeadLetter.Exchange), s.DeadLetter.Key)
	}
	b = appendInt(b, int64(s.Backoff.Min))
	b = appendInt(b, int64(s.Backoff.Max))
	b = appendInt(b, int64(s.DedupWindow))
	if policy != 0 {
		b = appendPolicy(b, policy, s)
	}
	return b
}

// DecodeQueue is the inverse of AppendQueue.
func DecodeQueue(b []byte) (*Queue, error) {
	d, v := decodeUpTo(version2, "queue", b)
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
	if v == version2 {
		d.policy(s)
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return q, nil
}

// AppendBinding appends the encoding of x. Equal bindings have equal encodings.
func AppendBinding(b []byte, x *queuedriver.Binding) []byte {
	v, to := byte(version), x.Queue
	if x.ToExchange != "" {
		v, to = version2, x.ToExchange
	}
	b = append(b, v)
	b = appendString(b, x.Exchange)
	b = appendString(b, to)
	b = appendString(b, x.Key)
	return appendHeaders(b, x.Args)
}

// DecodeBinding is the inverse of AppendBinding.
func DecodeBinding(b []byte) (*queuedriver.Binding, error) {
	d, v := decodeUpTo(version2, "binding", b)
	x := &queuedriver.Binding{Exchange: d.string("exchange"), Queue: d.string("queue"), Key: d.string("key")}
	if v == version2 { // one to an exchange
		if x.ToExchange, x.Queue = x.Queue, ""; x.ToExchange == "" {
			d.failf("to_exchange", "is empty")
		}
	}
	if h := d.headers("args", 1); len(h) > 0 {
		x.Args = h
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return x, nil
}
