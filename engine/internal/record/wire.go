package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// ErrCorrupt is the class of every error of a decoder.
var ErrCorrupt = errors.New("corrupt record")

// Error says which field of which record could not be decoded. It matches
// ErrCorrupt.
type Error struct {
	Record string // "lock", "message", ...
	Field  string // "" if it is about the record as a whole
	Reason string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Record + ": " + e.Reason
	}
	return e.Record + "." + e.Field + ": " + e.Reason
}

// Is reports that an Error is an ErrCorrupt.
func (e *Error) Is(target error) bool { return target == ErrCorrupt }

// version begins every record but messages, which have a mask of their
// fields, and blocks, which have their own. A record that gains fields gets a
// new version and its decoder reads both.
const version = 1

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func appendInt(b []byte, v int64) []byte   { return binary.AppendVarint(b, v) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendTime keeps the instant, not the location.
func appendTime(b []byte, t time.Time) []byte {
	return appendUint(appendInt(b, t.Unix()), uint64(t.Nanosecond()))
}

func uintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
func intSize(v int64) int   { return uintSize(uint64(v)<<1 ^ uint64(v>>63)) }
func stringSize(n int) int  { return uintSize(uint64(n)) + n }
func timeSize(t time.Time) int {
	return intSize(t.Unix()) + uintSize(uint64(t.Nanosecond()))
}

// decoder reads fields from the front of b. After the first error all reads
// return zero values. Numbers must be in their shortest form, so that one
// value has one encoding.
type decoder struct {
	record string
	b      []byte
	err    error
}

// version2 is the second version of some records. Each is written in the
// lowest version that holds it, so that one value has one encoding and a store
// that does not use what is new can still be opened by an older program.
const version2 = 2

// decode begins a record with a version.
func decode(record string, b []byte) *decoder {
	d, _ := decodeUpTo(version, record, b)
	return d
}

// decodeUpTo begins a record that has versions up to latest.
func decodeUpTo(latest byte, record string, b []byte) (d *decoder, v byte) {
	d = &decoder{record: record, b: b}
	if v = d.byte("version"); d.err == nil && (v < version || v > latest) {
		d.failf("version", "%d is not known to this program", v)
	}
	return d, v
}

func (d *decoder) failf(field, format string, args ...any) {
	if d.err == nil {
		d.err = &Error{Record: d.record, Field: field, Reason: fmt.Sprintf(format, args...)}
		d.b = nil
	}
}

// done returns the first error, or one if something is left.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.failf("", "%d bytes too many", len(d.b))
	}
	return d.err
}

func (d *decoder) byte(field string) byte {
	if len(d.b) == 0 {
		d.failf(field, "is cut off")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool(field string) bool {
	v := d.byte(field)
	if v > 1 {
		d.failf(field, "must be 0 or 1, is %d", v)
	}
	return v == 1
}

func (d *decoder) fixed64(field string) uint64 {
	b := d.take(field, 8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) uint(field string) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.failf(field, "is cut off")
		return 0
	case n < 0 || n != uintSize(v):
		d.failf(field, "is not a number in its shortest form")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// uintTo reads a number of at most limit.
func (d *decoder) uintTo(field string, limit uint64) uint64 {
	v := d.uint(field)
	if v > limit {
		d.failf(field, "must be at most %d, is %d", limit, v)
		return 0
	}
	return v
}

func (d *decoder) uint32(field string) uint32 { return uint32(d.uintTo(field, math.MaxUint32)) }

func (d *decoder) int(field string) int64 {
	v := d.uint(field)
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) duration(field string) time.Duration { return time.Duration(d.int(field)) }

// count reads how many things follow that take least bytes each, so that no
// more is allocated than the input can pay for.
func (d *decoder) count(field string, least int) int {
	return int(d.uintTo(field, uint64(len(d.b)/least)))
}

func (d *decoder) take(field string, n int) []byte {
	if len(d.b) < n {
		d.failf(field, "is cut off")
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// bytes returns a part of the input.
func (d *decoder) bytes(field string) []byte {
	n := d.uint(field)
	if n > uint64(len(d.b)) {
		d.failf(field, "is cut off")
		return nil
	}
	return d.take(field, int(n))
}

func (d *decoder) string(field string) string { return string(d.bytes(field)) }

// time reads an instant in UTC.
func (d *decoder) time(field string) time.Time {
	sec := d.int(field)
	nsec := d.uintTo(field, 999_999_999)
	if d.err != nil {
		return time.Time{}
	}
	t := time.Unix(sec, int64(nsec)).UTC()
	if t.Unix() != sec {
		d.failf(field, "is out of range")
	}
	return t
}
