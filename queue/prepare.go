package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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

// newID makes 128 random bits in hexadecimal.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, says its documentation
	return hex.EncodeToString(b[:])
}
