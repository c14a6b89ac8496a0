package driver

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"time"
)

// Digest tells Txns apart that bear the same ID: it is over all that a Txn
// does, but not over the authority by which it does it, and not over what
// differs from try to try. So the tokens of deliveries and the holders and
// tokens of locks are left out, as are the trace context among the headers,
// ID and ResultFor. Backends keep digests: how they are made never changes.
func (t *Txn) Digest() [32]byte {
	d := digest{sha256.New()}
	d.count(len(t.Settle))
	for i := range t.Settle {
		s := &t.Settle[i]
		d.text(s.Ref.Queue)
		d.number(s.Ref.Seq)
		d.number(uint64(s.Verb))
		d.number(uint64(s.Delay))
		d.flag(s.Backoff)
		d.text(s.Reason)
	}
	d.count(len(t.Publish))
	for i := range t.Publish {
		p := &t.Publish[i]
		d.text(p.Route.Exchange)
		d.text(p.Route.Key)
		d.flag(p.Mandatory)
		d.message(p.Message)
	}
	for _, locks := range [...][]LockRef{t.Release, t.Require} {
		d.count(len(locks))
		for _, l := range locks {
			d.text(l.Name)
		}
	}
	d.bytes(t.Result)
	return [32]byte(d.Sum(nil))
}

// digest writes values such that different ones give different bytes.
type digest struct{ hash.Hash }

func (d digest) number(n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	d.Write(b[:])
}

func (d digest) count(n int) { d.number(uint64(n)) }

func (d digest) text(s string) {
	d.count(len(s))
	d.Write([]byte(s))
}

func (d digest) bytes(b []byte) {
	d.count(len(b))
	d.Write(b)
}

func (d digest) flag(b bool) {
	if b {
		d.number(1)
	} else {
		d.number(0)
	}
}

func (d digest) time(t time.Time) {
	d.number(uint64(t.Unix()))
	d.number(uint64(t.Nanosecond()))
}

func (d digest) message(m *Message) {
	for _, s := range [...]string{
		m.ID, m.OrderKey, m.ContentType, m.ContentEncoding, m.CorrelationID, m.ReplyTo, m.Type, m.AppID, m.UserID,
	} {
		d.text(s)
	}
	d.bytes(m.Body)
	d.number(uint64(m.Priority))
	d.number(uint64(m.TTL))
	d.number(uint64(m.Delay))
	d.time(m.NotBefore)
	d.time(m.Timestamp)
	h := m.Headers
	if h[HeaderTraceParent] != nil || h[HeaderTraceState] != nil {
		h = make(Headers, len(m.Headers))
		for k, v := range m.Headers {
			if k != HeaderTraceParent && k != HeaderTraceState {
				h[k] = v
			}
		}
	}
	d.headers(h)
}

func (d digest) headers(h Headers) {
	d.count(len(h))
	for _, k := range h.Keys() {
		d.text(k)
		d.value(h[k])
	}
}

// value writes a type and what it holds: those that Headers.Validate admits.
func (d digest) value(v any) {
	switch v := v.(type) {
	case bool:
		d.text("bool")
		d.flag(v)
	case int64:
		d.text("int")
		d.number(uint64(v))
	case float64:
		d.text("float")
		d.number(math.Float64bits(v))
	case string:
		d.text("string")
		d.text(v)
	case []byte:
		d.text("bytes")
		d.bytes(v)
	case time.Time:
		d.text("time")
		d.time(v)
	case Headers:
		d.text("table")
		d.headers(v)
	case []any:
		d.text("list")
		d.count(len(v))
		for _, e := range v {
			d.value(e)
		}
	}
}
