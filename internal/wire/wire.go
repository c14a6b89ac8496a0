// Package wire is the JSON that the daemon and its Go client speak.
//
// It has one type for each request and reply, the strict decoder of requests
// (Decode), the errors as problem details (Problem), and the encodings that
// need care: message headers with their types kept (Headers), and handles of
// deliveries (EncodeHandle).
//
// Fencing tokens and sequence numbers are decimal strings, because JSON
// numbers above 2^53 do not survive in many languages. Durations are integers
// in fields that end in _ms. There are no absolute times but the ones that
// users set themselves: clocks differ.
package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"time"
)

// Service is what GET /v1/capabilities says in its field service.
const Service = "lockkeeper"

// Limits of the HTTP interface. A request past one is refused with the code
// too_large or invalid.
const (
	MaxWait         = 5 * time.Minute // wait_ms of an acquire or a receive
	MaxRequestBytes = 16 << 20        // a request's body, but for publish
	MaxPublishBytes = 96 << 20        // a publish's body
	MaxDepth        = 16              // arrays and objects within each other
	MaxElements     = 10_000          // of an array or an object
)

// Millis is a duration in whole milliseconds.
type Millis int64

// Duration returns m as a time.Duration, cut to the longest that one can hold.
func (m Millis) Duration() time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(int64(m), -most), most)) * time.Millisecond
}

// Floor returns d in milliseconds, rounded down: for what must not be
// overstated, as the time that a grant was waited for.
func Floor(d time.Duration) Millis { return Millis(d.Milliseconds()) }

// Ceil returns d in milliseconds, rounded up: for delays and waits, of which a
// little must not become none.
func Ceil(d time.Duration) Millis {
	m := d.Milliseconds()
	if d > time.Duration(m)*time.Millisecond {
		m++
	}
	return Millis(m)
}

// LeaseMillis returns a lease's TTL in milliseconds: rounded down, since a
// grant may not exceed what was asked, but not to none.
func LeaseMillis(d time.Duration) Millis {
	if d > 0 {
		return max(1, Floor(d))
	}
	return Floor(d)
}

// Encode returns v as JSON in one line, with <, > and & as they are, ended by
// a line feed.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}
