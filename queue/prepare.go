package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// prepare turns what the caller gave into what the driver takes: a copy with
// an ID, normal headers and the trace context, validated. The caller's
// Message is not changed; its body is shared.
func (b *Broker) prepare(ctx context.Context, r Route, m *Message, mandatory bool) (driver.Publishing, error) {
	if m == nil {
		return driver.Publishing{}, lease.Invalidf("message", "is missing")
	}
	own := *m
	if own.ID == "" {
		own.ID = newID()
	}
	own.Headers = injectTrace(ctx, own.Headers.Normalize())
	if !own.NotBefore.IsZero() {
		own.NotBefore = own.NotBefore.UTC()
	}
	if !own.Timestamp.IsZero() {
		own.Timestamp = own.Timestamp.UTC().Truncate(time.Second)
	}
	p := driver.Publishing{Route: r, Message: &own, Mandatory: mandatory}
	if err := p.Validate(); err != nil {
		return driver.Publishing{}, err
	}
	if most := b.caps.MaxBody; most > 0 && len(own.Body) > most {
		return driver.Publishing{}, lease.Invalidf("message.body", "must be at most %d bytes, has %d", most, len(own.Body))
	}
	return p, nil
}

// idSize is how many random bytes are in an id.
const idSize = 16

// idBytes are random bytes for the next ids: the system's generator costs much
// the same for one id and for sixty-four.
type idBytes struct {
	bytes [64 * idSize]byte
	left  int // at the end of bytes
}

var idPool = sync.Pool{New: func() any { return new(idBytes) }}

// newID makes 128 random bits in hexadecimal.
func newID() string {
	b, _ := idPool.Get().(*idBytes)
	if b.left == 0 {
		rand.Read(b.bytes[:]) // never fails, says its documentation
		b.left = len(b.bytes)
	}
	var text [2 * idSize]byte
	at := len(b.bytes) - b.left
	hex.Encode(text[:], b.bytes[at:at+idSize])
	b.left -= idSize
	idPool.Put(b)
	return string(text[:])
}
