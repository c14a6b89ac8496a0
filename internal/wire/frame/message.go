package frame

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// nestedCost is at most how many bytes a number, or tag and length of what is
// nested, take.
const nestedCost = 16

// appendMessage appends the fields of a message.
func appendMessage(b []byte, m *queuedriver.Message) []byte {
	b = appendString(b, 1, m.ID)
	b = appendString(b, 2, m.OrderKey)
	b = appendTable(b, 3, m.Headers)
	b = appendBytes(b, 4, m.Body)
	b = appendUint(b, 5, uint64(m.Priority))
	b = appendDuration(b, 6, m.TTL)
	b = appendDuration(b, 7, m.Delay)
	b = appendTime(b, 8, m.NotBefore)
	b = appendString(b, 9, m.ContentType)
	b = appendString(b, 10, m.ContentEncoding)
	b = appendString(b, 11, m.CorrelationID)
	b = appendString(b, 12, m.ReplyTo)
	b = appendString(b, 13, m.Type)
	b = appendString(b, 14, m.AppID)
	b = appendString(b, 15, m.UserID)
	return appendTime(b, 16, m.Timestamp)
}

// message reads the message that the field holds into m. The body aliases the
// input.
func (r *reader) message(m *queuedriver.Message) {
	n := r.nested("message")
	for n.next() {
		switch n.num {
		case 1:
			m.ID = n.string()
		case 2:
			m.OrderKey = n.string()
		case 3:
			n.header(&m.Headers, 1)
		case 4:
			m.Body = n.bytes()
		case 5:
			m.Priority = uint8(min(n.uint(), math.MaxUint8))
		case 6:
			m.TTL = n.duration()
		case 7:
			m.Delay = n.duration()
		case 8:
			m.NotBefore = n.time()
		case 9:
			m.ContentType = n.string()
		case 10:
			m.ContentEncoding = n.string()
		case 11:
			m.CorrelationID = n.string()
		case 12:
			m.ReplyTo = n.string()
		case 13:
			m.Type = n.string()
		case 14:
			m.AppID = n.string()
		case 15:
			m.UserID = n.string()
		case 16:
			m.Timestamp = n.time()
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
}

// appendTable appends the entries of a table, each as field num.
func appendTable(b []byte, num protowire.Number, h queuedriver.Headers) []byte {
	for k, v := range h {
		var e, val mark
		b, e = open(b, num, len(k)+16)
		b = appendString(b, 1, k)
		b, val = open(b, 2, 8)
		b = appendValue(b, v)
		b = shut(shut(b, val), e)
	}
	return b
}

// appendValue appends a value of a header. It is always there, also if it is
// zero: that says which type it has. Values are of the types that
// Headers.Validate admits.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), protowire.EncodeBool(v))
	case int64:
		return protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), protowire.EncodeZigZag(v))
	case float64:
		return protowire.AppendFixed64(protowire.AppendTag(b, 3, protowire.Fixed64Type), math.Float64bits(v))
	case string:
		return protowire.AppendString(protowire.AppendTag(b, 4, protowire.BytesType), v)
	case []byte:
		return protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), v)
	case time.Time:
		return protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), protowire.EncodeZigZag(v.Unix()))
	case queuedriver.Headers:
		b, m := open(b, 7, 64)
		b = appendTable(b, 1, v)
		return shut(b, m)
	case []any:
		b, m := open(b, 8, 64)
		for _, e := range v {
			var em mark
			b, em = open(b, 1, 8)
			b = appendValue(b, e)
			b = shut(b, em)
		}
		return shut(b, m)
	}
	return b
}

// tableCost adds at most how many bytes a table takes, and how many items of
// a batch it is.
func tableCost(h queuedriver.Headers, bytes, items *int) {
	for k, v := range h {
		*items++
		*bytes += len(k) + nestedCost
		valueCost(v, bytes, items)
	}
}

func valueCost(v any, bytes, items *int) {
	*bytes += nestedCost
	switch v := v.(type) {
	case string:
		*bytes += len(v)
	case []byte:
		*bytes += len(v)
	case queuedriver.Headers:
		tableCost(v, bytes, items)
	case []any:
		for _, e := range v {
			*items++
			valueCost(e, bytes, items)
		}
	}
}

// header reads one entry of a table.
func (r *reader) header(h *queuedriver.Headers, depth int) {
	if !r.item(len(*h), queuedriver.MaxHeaders+1, "headers") {
		return
	}
	n := r.nested("header")
	var k string
	var v any
	for n.next() {
		switch n.num {
		case 1:
			k = n.string()
		case 2:
			v = n.value(depth)
		default:
			n.unknown()
		}
	}
	if n.err == nil && v == nil {
		_ = n.fail("has no value")
	}
	r.adopt(n.err)
	if *h == nil {
		*h = queuedriver.Headers{}
	}
	(*h)[k] = v
}

func (r *reader) value(depth int) (v any) {
	n := r.nested("header's value")
	if depth > MaxDepth {
		_ = n.fail("is nested deeper than %d", MaxDepth)
	}
	for n.next() {
		switch n.num {
		case 1:
			v = n.bool()
		case 2:
			v = protowire.DecodeZigZag(n.uint())
		case 3:
			if n.is(protowire.Fixed64Type) {
				v = math.Float64frombits(n.u)
			}
		case 4:
			v = n.string()
		case 5:
			v = append([]byte{}, n.bytes()...)
		case 6:
			v = time.Unix(protowire.DecodeZigZag(n.uint()), 0).UTC()
		case 7:
			v = n.table(depth + 1)
		case 8:
			v = n.list(depth + 1)
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
	return v
}

func (r *reader) table(depth int) queuedriver.Headers {
	n, h := r.nested("table"), queuedriver.Headers{}
	for n.next() {
		if n.num == 1 {
			n.header(&h, depth)
		} else {
			n.unknown()
		}
	}
	r.adopt(n.err)
	return h
}

func (r *reader) list(depth int) []any {
	n, l := r.nested("list"), []any{}
	for n.next() {
		if n.num != 1 {
			n.unknown()
			continue
		}
		if !n.item(len(l), queuedriver.MaxHeaders+1, "elements of a list") {
			break
		}
		v := n.value(depth)
		if v == nil {
			_ = n.fail("has an element without a value")
		}
		l = append(l, v)
	}
	r.adopt(n.err)
	return l
}
