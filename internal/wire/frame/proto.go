package frame

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// mark is where a nested message began.
type mark struct{ start, width int }

// open begins a nested message that will have about hint bytes: so much room
// is left for its length that shut need not move it.
func open(b []byte, num protowire.Number, hint int) ([]byte, mark) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	m := mark{start: len(b), width: protowire.SizeVarint(uint64(max(0, hint)))}
	for range m.width {
		b = append(b, 0)
	}
	return b, m
}

// shut ends a nested message.
func shut(b []byte, m mark) []byte {
	n := len(b) - m.start - m.width
	width := protowire.SizeVarint(uint64(max(0, n)))
	if width != m.width {
		for range width - m.width {
			b = append(b, 0)
		}
		copy(b[m.start+width:], b[m.start+m.width:m.start+m.width+n])
		b = b[:m.start+width+n]
	}
	protowire.AppendVarint(b[m.start:m.start], uint64(max(0, n)))
	return b
}

// The zero value of a field is not sent, as proto3 has it.

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendInt(b []byte, num protowire.Number, v int64) []byte {
	return appendUint(b, num, uint64(v))
}

func appendDuration(b []byte, num protowire.Number, d time.Duration) []byte {
	return appendInt(b, num, int64(d))
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, num, 1)
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendBytes(b []byte, num protowire.Number, s []byte) []byte {
	if len(s) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// appendTime appends a Time unless t is the zero time.
func appendTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b, m := open(b, num, 12)
	b = appendInt(b, 1, t.Unix())
	b = appendInt(b, 2, int64(t.Nanosecond()))
	return shut(b, m)
}

// reader walks over the fields of one message. The first error ends the walk
// and stays.
type reader struct {
	b       []byte
	what    string // the message's name
	lenient bool   // fields that are not known are passed over
	items   *int   // of the batch; nil: not counted

	num  protowire.Number
	typ  protowire.Type
	u    uint64
	data []byte
	err  error
}

// next takes the next field. It returns false at the end, and after an error.
func (r *reader) next() bool {
	if r.err != nil || len(r.b) == 0 {
		return false
	}
	num, typ, n := protowire.ConsumeTag(r.b)
	if n < 0 {
		_ = r.fail("has a field that cannot be read")
		return false
	}
	r.b = r.b[n:]
	r.num, r.typ = num, typ
	switch typ {
	case protowire.VarintType:
		r.u, n = protowire.ConsumeVarint(r.b)
	case protowire.Fixed64Type:
		r.u, n = protowire.ConsumeFixed64(r.b)
	case protowire.BytesType:
		r.data, n = protowire.ConsumeBytes(r.b)
	case protowire.Fixed32Type:
		_, n = protowire.ConsumeFixed32(r.b)
	default:
		n = -1
	}
	if n < 0 {
		_ = r.fail("breaks off in field %d, or has it in a form that cannot be read", num)
		return false
	}
	r.b = r.b[n:]
	return true
}

func (r *reader) fail(format string, args ...any) error {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s %s", ErrMalformed, r.what, fmt.Sprintf(format, args...))
	}
	return r.err
}

// adopt takes over the error of a nested message.
func (r *reader) adopt(err error) {
	if r.err == nil {
		r.err = err
	}
}

// unknown is called for a field that the message has not.
func (r *reader) unknown() {
	if !r.lenient {
		_ = r.fail("has an unknown field %d", r.num)
	}
}

func (r *reader) is(t protowire.Type) bool {
	if r.typ != t {
		_ = r.fail("has field %d in a wrong form", r.num)
		return false
	}
	return true
}

func (r *reader) uint() uint64 {
	if !r.is(protowire.VarintType) {
		return 0
	}
	return r.u
}

func (r *reader) int() int64              { return int64(r.uint()) }
func (r *reader) duration() time.Duration { return time.Duration(r.int()) }
func (r *reader) bool() bool              { return r.uint() != 0 }

// small is a number of at most 31 bits.
func (r *reader) small() int {
	v := r.int()
	if v < 0 || v > math.MaxInt32 {
		_ = r.fail("has a number that is too large or negative in field %d", r.num)
		return 0
	}
	return int(v)
}

// bytes aliases the input.
func (r *reader) bytes() []byte {
	if !r.is(protowire.BytesType) {
		return nil
	}
	return r.data
}

func (r *reader) string() string { return r.again("") }

// again is string, without a copy if the text is the one of last: lists often
// have the same name in every element.
func (r *reader) again(last string) string {
	b := r.bytes()
	if string(b) == last {
		return last
	}
	if !utf8.Valid(b) {
		_ = r.fail("has text in field %d that is not UTF-8", r.num)
		return ""
	}
	return string(b)
}

// nested returns a reader of the nested message.
func (r *reader) nested(what string) reader {
	return reader{b: r.bytes(), what: what, lenient: r.lenient, items: r.items, err: r.err}
}

func (r *reader) time() time.Time {
	n := r.nested("time")
	var sec, nanos int64
	for n.next() {
		switch n.num {
		case 1:
			sec = n.int()
		case 2:
			nanos = n.int()
		default:
			n.unknown()
		}
	}
	if nanos < 0 || nanos >= int64(time.Second) {
		_ = n.fail("has nanoseconds that are none")
	}
	r.adopt(n.err)
	return time.Unix(sec, nanos).UTC()
}

// item counts an element of a list against the batch's MaxItems and the
// list's own bound.
func (r *reader) item(have, most int, list string) bool {
	if have >= most {
		_ = r.fail("has more than %d %s", most, list)
		return false
	}
	if r.items != nil {
		if *r.items++; *r.items > MaxItems {
			_ = r.fail("is past the %d items of a batch", MaxItems)
			return false
		}
	}
	return true
}
