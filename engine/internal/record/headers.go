package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Kinds of a header's value on disk. New ones go to the end.
const (
	kindFalse = iota
	kindTrue
	kindInt
	kindFloat
	kindString
	kindBytes
	kindTime
	kindTable
	kindList
)

// maxDepth bounds the recursion of the decoder. Validated headers are nested
// less deep.
const maxDepth = queuedriver.MaxHeaderDepth + 4

// appendHeaders appends a table with its keys in byte order. The values are of
// the types that Headers.Validate allows; others are a bug of the caller.
func appendHeaders(b []byte, h queuedriver.Headers) []byte {
	b = appendUint(b, uint64(len(h)))
	if len(h) == 0 {
		return b
	}
	for _, k := range h.Keys() {
		b = appendHeaderValue(appendString(b, k), h[k])
	}
	return b
}

func appendHeaderValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, kindTrue)
		}
		return append(b, kindFalse)
	case int64:
		return appendInt(append(b, kindInt), v)
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, kindFloat), math.Float64bits(v))
	case string:
		return appendString(append(b, kindString), v)
	case []byte:
		return append(appendUint(append(b, kindBytes), uint64(len(v))), v...)
	case time.Time:
		return appendTime(append(b, kindTime), v)
	case queuedriver.Headers:
		return appendHeaders(append(b, kindTable), v)
	case []any:
		b = appendUint(append(b, kindList), uint64(len(v)))
		for _, e := range v {
			b = appendHeaderValue(b, e)
		}
		return b
	}
	panic(fmt.Sprintf("record: header value of type %T was not validated", v))
}

func headersSize(h queuedriver.Headers) int {
	n := uintSize(uint64(len(h)))
	for k, v := range h {
		n += stringSize(len(k)) + headerValueSize(v)
	}
	return n
}

func headerValueSize(v any) int {
	switch v := v.(type) {
	case bool:
		return 1
	case int64:
		return 1 + intSize(v)
	case float64:
		return 9
	case string:
		return 1 + stringSize(len(v))
	case []byte:
		return 1 + stringSize(len(v))
	case time.Time:
		return 1 + timeSize(v)
	case queuedriver.Headers:
		return 1 + headersSize(v)
	case []any:
		n := 1 + uintSize(uint64(len(v)))
		for _, e := range v {
			n += headerValueSize(e)
		}
		return n
	}
	panic(fmt.Sprintf("record: header value of type %T was not validated", v))
}

func (d *decoder) headers(field string, depth int) queuedriver.Headers {
	n := d.count(field, 2)
	h := make(queuedriver.Headers, n)
	last := ""
	for i := range n {
		k := d.string(field + " key")
		if i > 0 && k <= last {
			d.failf(field, "is not in order")
			break
		}
		h[k], last = d.headerValue(field, depth), k
		if d.err != nil {
			break
		}
	}
	return h
}

func (d *decoder) headerValue(field string, depth int) any {
	if depth > maxDepth {
		d.failf(field, "is nested deeper than %d", maxDepth)
		return nil
	}
	switch kind := d.byte(field); kind {
	case kindFalse:
		return false
	case kindTrue:
		return true
	case kindInt:
		return d.int(field)
	case kindFloat:
		return math.Float64frombits(d.fixed64(field))
	case kindString:
		return d.string(field)
	case kindBytes:
		return d.bytes(field)
	case kindTime:
		return d.time(field)
	case kindTable:
		return d.headers(field, depth+1)
	case kindList:
		list := make([]any, d.count(field, 1))
		for i := range list {
			if list[i] = d.headerValue(field, depth+1); d.err != nil {
				break
			}
		}
		return list
	default:
		d.failf(field, "has a value of kind %d, which is not known", kind)
		return nil
	}
}
