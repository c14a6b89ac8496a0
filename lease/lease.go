// Package lease holds what locks and deliveries have in common.
//
// A lease is an exclusive right that expires, can be renewed, and carries a
// fencing token: a number that only ever grows, so that a resource can refuse
// a holder that was paused and overtaken. A lock is a lease on a name; a
// delivery is a lease on a message. Both use this package for their tokens,
// for the clock and the rule by which a holder ends its lease on time, for
// renewal, and for the errors that mean the same to both.
package lease

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Token is a fencing token. Tokens of one name grow strictly over all grants
// made within one incarnation of a store. The zero Token is never granted.
//
// A Token is a string in JSON, because 2^53 and above do not survive as a
// JSON number in many languages.
type Token uint64

// String returns the token in decimal.
func (t Token) String() string { return strconv.FormatUint(uint64(t), 10) }

// MarshalText encodes the token in decimal.
func (t Token) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(t), 10), nil }

// UnmarshalText decodes a decimal token. It refuses signs, leading zeros,
// zero itself and whatever does not fit 64 bits.
func (t *Token) UnmarshalText(b []byte) error {
	tok, err := ParseToken(string(b))
	if err != nil {
		return err
	}
	*t = tok
	return nil
}

// ParseToken reads a token as String writes it.
func ParseToken(s string) (Token, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, &FieldError{Field: "token", Reason: "must be a decimal number from 1 to 18446744073709551615"}
	}
	return Token(n), nil
}

// Errors that mean the same for locks and for queues. Compare with errors.Is.
var (
	// ErrInvalid is the class of every *FieldError: the request breaks a
	// documented rule. Nothing was done.
	ErrInvalid = errors.New("invalid request")
	// ErrUnsupported means that this backend cannot do what was asked.
	ErrUnsupported = errors.New("not supported by this backend")
	// ErrNotFound means that the thing named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the thing named exists and is different.
	ErrConflict = errors.New("conflicts with what exists")
	// ErrNotHeld means that the lease named by holder and token is not, or no
	// longer, the live one. Nothing was changed.
	ErrNotHeld = errors.New("lease not held")
	// ErrLimit means that a documented bound on what may exist at once
	// (waiters, deliveries in flight, names) is reached. Trying later may work.
	ErrLimit = errors.New("limit reached")
	// ErrUnknown means that the request may or may not have been carried out.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable means that the backend cannot serve: it is stopping, has
	// failed, or cannot be reached. The request was not carried out.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrNoSpace means that the store's disk is full: writes are refused until
	// there is room; nothing that was confirmed is lost.
	ErrNoSpace = errors.New("no space left for the store")
	// ErrDenied means that the backend refused the caller's credentials.
	ErrDenied = errors.New("access denied")
	// ErrClosed means that the client, or the thing it was called on, was
	// closed by its owner.
	ErrClosed = errors.New("closed")
)

// Causes for which a lease ends, besides ErrClosed: what context.Cause of its
// context says.
var (
	// ErrReleased: the holder gave it back (or settled the delivery).
	ErrReleased = errors.New("lease released")
	// ErrExpired: its local deadline passed without a successful renewal.
	ErrExpired = errors.New("lease expired")
	// ErrLost: the backend said that it is not held any more.
	ErrLost = errors.New("lease lost")
	// ErrRevoked: an operator refused its further renewal.
	ErrRevoked = errors.New("lease revoked")
	// ErrBroken: an operator gave the name away at once.
	ErrBroken = errors.New("lease broken")
)

// FieldError says which field of a request breaks which rule. It matches
// ErrInvalid.
type FieldError struct {
	Field  string // as the caller knows it: "name", "ttl", "queue.delivery_limit"
	Reason string // the rule with its limit: "must be 1 to 512 bytes, has 600"
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

// Is reports that a FieldError is an ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Invalidf makes a FieldError.
func Invalidf(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ValidateText returns a *FieldError unless s is least to most bytes of UTF-8
// without control characters: what names, keys and ids have to be.
func ValidateText(field, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return Invalidf(field, "must be %d to %d bytes, has %d", least, most, len(s))
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return Invalidf(field, "must be valid UTF-8, is not at byte %d", i)
			}
		}
		if r < 0x20 || r == 0x7f {
			return Invalidf(field, "must not contain control characters, has U+%04X at byte %d", r, i)
		}
	}
	return nil
}

// ValidateSentences returns a *FieldError unless s is whole sentences on one
// line, of 1 to most bytes.
func ValidateSentences(field, s string, most int) error {
	if err := ValidateText(field, s, 1, most); err != nil {
		return err
	}
	if !strings.HasSuffix(s, ".") {
		return Invalidf(field, "must be whole sentences, is %q", s)
	}
	return nil
}
