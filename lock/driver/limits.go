package driver

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Limits of the portable API. Every backend honours at least these.
const (
	MaxName        = 512  // bytes of a lock's name
	MaxHolder      = 128  // bytes of a holder's or a request's id
	MaxNames       = 64   // names of one request
	MaxWithin      = 16   // holders around one request
	MaxCycle       = 100  // waits of a circle that is looked for
	MaxTicket      = 256  // bytes of an opaque ticket
	MaxPermits     = 1024 // grants of a semaphore
	MaxMeta        = 16   // entries
	MaxMetaKey     = 64   // bytes
	MaxMetaValue   = 1024 // bytes
	MaxValue       = 4096 // bytes of a grant's value
	MaxBatch       = 1000 // refs in one Renew or Release
	MaxList        = 1000
	DefaultList    = 100
	MaxListWaiters = 100 // waiters described per name
	MaxLockDelay   = time.Hour
)

// ValidateName returns a *lease.FieldError unless s is 1 to MaxName bytes of
// UTF-8 without control characters. Slashes, percent signs and spaces are
// fine.
func ValidateName(field, s string) error { return lease.ValidateText(field, s, 1, MaxName) }

// ValidateHolder does the same for holders' ids, up to MaxHolder bytes.
func ValidateHolder(field, s string) error { return lease.ValidateText(field, s, 1, MaxHolder) }

// Validate checks everything about a request that does not depend on the
// state of the backend, against the limits above and the TTLs of c.
func (r *Request) Validate(c *Caps) error {
	if err := ValidateName("name", r.Name); err != nil {
		return err
	}
	if err := ValidateHolder("holder", r.Holder); err != nil {
		return err
	}
	if err := lease.ValidateText("request_id", r.ID, 0, MaxHolder); err != nil {
		return err
	}
	if r.Ticket != nil && len(r.Ticket.Opaque) > MaxTicket {
		return lease.Invalidf("ticket", "must be at most %d bytes, has %d", MaxTicket, len(r.Ticket.Opaque))
	}
	if err := r.validateMore(c); err != nil {
		return err
	}
	if err := r.validateWithin(); err != nil {
		return err
	}
	if r.Mode > Shared {
		return lease.Invalidf("mode", "must be exclusive or shared")
	}
	if r.Permits < 0 || r.Permits > MaxPermits {
		return lease.Invalidf("permits", "must be 0 to %d, is %d", MaxPermits, r.Permits)
	}
	if r.Mode == Shared && r.Permits > 1 {
		return lease.Invalidf("permits", "must be 0 or 1 for a shared lock, is %d", r.Permits)
	}
	if err := ValidateTTL("ttl", r.TTL, c); err != nil {
		return err
	}
	if r.LockDelay < 0 || r.LockDelay > MaxLockDelay {
		return lease.Invalidf("lock_delay", "must be 0 to %v, is %v", MaxLockDelay, r.LockDelay)
	}
	if err := validMeta(r.Meta); err != nil {
		return err
	}
	return r.validateValue(c)
}

func (r *Request) validateValue(c *Caps) error {
	if len(r.Value) == 0 {
		return nil
	}
	if r.Mode != Exclusive || r.Permits > 1 || len(r.More) > 0 {
		return lease.Invalidf("value", "must be empty unless the request is for one plain exclusive lock")
	}
	return ValidateValue(r.Value, c)
}

// ValidateValue checks a grant's value.
func ValidateValue(value []byte, c *Caps) error {
	if len(value) > MaxValue {
		return lease.Invalidf("value", "must be at most %d bytes, has %d", MaxValue, len(value))
	}
	if !c.Election {
		return fmt.Errorf("a value of a grant: %w", lease.ErrUnsupported)
	}
	return nil
}

// ValidateCancel checks what Cancel reads of a request.
func (r *Request) ValidateCancel() error {
	if err := ValidateName("name", r.Name); err != nil {
		return err
	}
	if err := ValidateHolder("holder", r.Holder); err != nil {
		return err
	}
	if err := lease.ValidateText("request_id", r.ID, 0, MaxHolder); err != nil {
		return err
	}
	return r.validateNames()
}

// validateMore checks the further names, and that the backend takes some.
func (r *Request) validateMore(c *Caps) error {
	if err := r.validateNames(); err != nil {
		return err
	}
	if len(r.More) > 0 && !c.Multi {
		return fmt.Errorf("several names at once: %w", lease.ErrUnsupported)
	}
	return nil
}

// validateNames checks that the names grow, so that each is there once.
func (r *Request) validateNames() error {
	if len(r.More) >= MaxNames {
		return lease.Invalidf("names", "must be at most %d, are %d", MaxNames, r.Names())
	}
	last := r.Name
	for _, name := range r.More {
		if err := ValidateName("names", name); err != nil {
			return err
		}
		if name <= last {
			return lease.Invalidf("names", "must be sorted, each of them once: %q comes after %q", name, last)
		}
		last = name
	}
	return nil
}

func (r *Request) validateWithin() error {
	if len(r.Within) > MaxWithin {
		return lease.Invalidf("within", "must be at most %d holders, are %d", MaxWithin, len(r.Within))
	}
	for _, h := range r.Within {
		if err := ValidateHolder("within", h); err != nil {
			return err
		}
	}
	return nil
}

// ValidateTTL checks a TTL against what the backend takes.
func ValidateTTL(field string, ttl time.Duration, c *Caps) error {
	if ttl < c.MinTTL || ttl > c.MaxTTL {
		return lease.Invalidf(field, "must be %v to %v, is %v", c.MinTTL, c.MaxTTL, ttl)
	}
	return nil
}

func validMeta(m map[string]string) error {
	if len(m) > MaxMeta {
		return lease.Invalidf("meta", "must have at most %d entries, has %d", MaxMeta, len(m))
	}
	for k, v := range m {
		if err := lease.ValidateText("meta key", k, 1, MaxMetaKey); err != nil {
			return err
		}
		if len(v) > MaxMetaValue || !utf8.ValidString(v) {
			return lease.Invalidf("meta["+k+"]", "must be UTF-8 of at most %d bytes, has %d", MaxMetaValue, len(v))
		}
	}
	return nil
}
