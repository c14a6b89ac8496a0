package queue

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Verdict is how a delivery ends. The zero Verdict is invalid, so that one
// that was forgotten does not settle anything.
type Verdict struct {
	verb    driver.Verb
	delay   time.Duration
	backoff bool
	reason  string
}

// AckVerdict says that the message was handled: it is gone for good.
func AckVerdict() Verdict { return Verdict{verb: driver.Ack} }

// NackVerdict says that the attempt failed: the message is delivered again
// after d (0 to driver.MaxDelay), or dead-lettered if that was its last
// attempt. why is kept with a dead letter, cut to driver.MaxReason bytes.
func NackVerdict(d time.Duration, why string) Verdict {
	return Verdict{verb: driver.Nack, delay: d, reason: cutReason(why)}
}

// BackoffVerdict is a NackVerdict after the delay that the queue's Backoff
// says.
func BackoffVerdict(why string) Verdict {
	return Verdict{verb: driver.Nack, backoff: true, reason: cutReason(why)}
}

// ReleaseVerdict says that the message was not handled: it goes back to where
// it was, at once, and that does not count as an attempt.
func ReleaseVerdict() Verdict { return Verdict{verb: driver.Release} }

// RejectVerdict says that the message can never be handled: it is
// dead-lettered, or dropped if its queue has no dead letter. why is kept with
// the dead letter, cut to driver.MaxReason bytes.
func RejectVerdict(why string) Verdict {
	return Verdict{verb: driver.Reject, reason: cutReason(why)}
}

// String names the verdict for logs and errors.
func (v Verdict) String() string {
	switch v.verb {
	case driver.Ack:
		return "ack"
	case driver.Nack:
		return "nack"
	case driver.Release:
		return "release"
	case driver.Reject:
		return "reject"
	case driver.Extend: // is no verdict
	}
	return fmt.Sprintf("verdict(%d)", v.verb)
}

func (v Verdict) settlement(ref driver.Ref) driver.Settlement {
	return driver.Settlement{Ref: ref, Verb: v.verb, Delay: v.delay, Backoff: v.backoff, Reason: v.reason}
}

func cutReason(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= driver.MaxReason {
		return s
	}
	n := driver.MaxReason
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ErrRelease is what a Handler returns, wrapped or bare, to hand the message
// back without counting the attempt.
var ErrRelease = errors.New("release the delivery")

// retryError and rejectError are verdicts in the form of errors.
type (
	retryError struct {
		after time.Duration
		err   error
	}
	rejectError struct{ err error }
)

// RetryAfter makes an error with which a Handler asks for the next attempt
// after d instead of the queue's backoff. d is taken into 0 to
// driver.MaxDelay. err, which may be nil, says why.
func RetryAfter(d time.Duration, err error) error {
	return &retryError{after: min(max(d, 0), driver.MaxDelay), err: err}
}

// Reject makes an error with which a Handler says that no further attempt can
// help: the message is dead-lettered now. err, which may be nil, says why.
func Reject(err error) error { return &rejectError{err: err} }

func (e *retryError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("retry after %v", e.after)
	}
	return e.err.Error()
}
func (e *retryError) Unwrap() error { return e.err }

func (e *rejectError) Error() string {
	if e.err == nil {
		return "rejected"
	}
	return e.err.Error()
}
func (e *rejectError) Unwrap() error { return e.err }

// verdictOf turns what a handler returned into a verdict.
func verdictOf(err error) Verdict {
	if err == nil {
		return AckVerdict() // before there is anything on the heap
	}
	var retry *retryError
	var reject *rejectError
	switch {
	case errors.As(err, &reject):
		return RejectVerdict(err.Error())
	case errors.As(err, &retry):
		return NackVerdict(retry.after, err.Error())
	case errors.Is(err, ErrRelease):
		return ReleaseVerdict()
	}
	return BackoffVerdict(err.Error())
}
