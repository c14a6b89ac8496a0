package wire

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Codes of problems. They are part of the interface: clients branch on them.
const (
	CodeInvalid      = "invalid"       // a field breaks a rule; field and reason say which
	CodeUnknownField = "unknown_field" // a field or query parameter that nobody knows
	CodeMalformed    = "malformed"     // not JSON at all
	CodeTooLarge     = "too_large"     // the body is past its limit
	CodeTimeout      = "timeout"       // the body did not arrive in time
	CodeNoEndpoint   = "no_such_endpoint"
	CodeMethod       = "method_not_allowed"
	CodeCrossSite    = "cross_site" // a browser sent it on behalf of another site
	CodeDenied       = "denied"

	CodeHeld        = "held"
	CodeAlreadyHeld = "already_held"
	CodeDeadlock    = "deadlock"
	CodeNotHeld     = "not_held"
	CodeRevoked     = "revoked"
	CodeBroken      = "broken"
	CodeExpired     = "expired"
	CodeLost        = "lost"

	CodeNotFound    = "not_found"
	CodeConflict    = "conflict"
	CodeInUse       = "in_use"
	CodeUnroutable  = "unroutable"
	CodeQueueFull   = "queue_full"
	CodeExclusive   = "exclusive"
	CodeLimit       = "limit"
	CodeUnsupported = "unsupported"
	CodeUnavailable = "unavailable"
	CodeNoSpace     = "no_space"
	CodeClosed      = "closed"
	CodeUnknown     = "unknown" // it may or may not have been carried out
	CodeInternal    = "internal"
)

type codeInfo struct {
	code   string
	status int
	title  string
	err    error // what it is in Go
}

// codes is in the order in which an error that matches several is named: what
// is most to be feared comes first.
var codes = []codeInfo{
	{CodeUnknown, http.StatusGatewayTimeout, "The outcome is unknown", lease.ErrUnknown},
	{CodeHeld, http.StatusConflict, "The lock is held", lockdriver.ErrHeld},
	{CodeAlreadyHeld, http.StatusConflict, "This holder holds the lock already", lockdriver.ErrAlreadyHeld},
	{CodeDeadlock, http.StatusConflict, "The request waited in a circle", lockdriver.ErrDeadlock},
	{CodeUnroutable, http.StatusUnprocessableEntity, "The message matches no queue", queuedriver.ErrUnroutable},
	{CodeQueueFull, http.StatusTooManyRequests, "A queue that the message matches is full", queuedriver.ErrQueueFull},
	{CodeExclusive, http.StatusLocked, "The queue belongs to another connection", queuedriver.ErrExclusive},
	{CodeInUse, http.StatusConflict, "It is in use", queuedriver.ErrInUse},
	{CodeRevoked, http.StatusConflict, "The lease was revoked", lease.ErrRevoked},
	{CodeBroken, http.StatusConflict, "The lease was broken", lease.ErrBroken},
	{CodeExpired, http.StatusConflict, "The lease has expired", lease.ErrExpired},
	{CodeLost, http.StatusConflict, "The lease was lost", lease.ErrLost},
	{CodeNotHeld, http.StatusConflict, "The lease is not held", lease.ErrNotHeld},
	{CodeNotFound, http.StatusNotFound, "It does not exist", lease.ErrNotFound},
	{CodeConflict, http.StatusConflict, "It conflicts with what exists", lease.ErrConflict},
	{CodeLimit, http.StatusTooManyRequests, "A limit is reached", lease.ErrLimit},
	{CodeUnsupported, http.StatusNotImplemented, "Not supported by this backend", lease.ErrUnsupported},
	{CodeNoSpace, http.StatusInsufficientStorage, "The store's disk is full", lease.ErrNoSpace},
	{CodeDenied, http.StatusUnauthorized, "Access denied", lease.ErrDenied},
	{CodeInvalid, http.StatusBadRequest, "The request is invalid", lease.ErrInvalid},
	{CodeUnavailable, http.StatusServiceUnavailable, "The service is unavailable", lease.ErrUnavailable},
	{CodeClosed, http.StatusServiceUnavailable, "The service is closed", lease.ErrClosed},

	{CodeUnknownField, http.StatusBadRequest, "The request has an unknown field", lease.ErrInvalid},
	{CodeMalformed, http.StatusBadRequest, "The request is malformed", lease.ErrInvalid},
	{CodeTooLarge, http.StatusRequestEntityTooLarge, "The request is too large", lease.ErrInvalid},
	{CodeTimeout, http.StatusRequestTimeout, "The request took too long to arrive", lease.ErrUnavailable},
	{CodeNoEndpoint, http.StatusNotFound, "No such endpoint", lease.ErrUnsupported},
	{CodeMethod, http.StatusMethodNotAllowed, "Method not allowed", lease.ErrUnsupported},
	{CodeCrossSite, http.StatusForbidden, "Refused: sent by a browser for another site", lease.ErrDenied},
	{CodeInternal, http.StatusInternalServerError, "Internal error", lease.ErrUnknown},
}

func infoOf(code string) codeInfo {
	for _, c := range codes {
		if c.code == code {
			return c
		}
	}
	return codeInfo{code, http.StatusInternalServerError, "Unknown code " + code, lease.ErrUnknown}
}

// Codes returns every code, for the documentation.
func Codes() []string {
	out := make([]string, len(codes))
	for i, c := range codes {
		out[i] = c.code
	}
	return out
}

// Problem is an error as RFC 9457 describes it, with members of our own: the
// stable code, and what a client needs to act on it. In lists of outcomes it
// comes without type, title and status.
type Problem struct { //nolint:errname // RFC 9457's word, and the schema's name in the OpenAPI document
	Type     string `json:"type,omitempty" doc:"urn:lockkeeper:problem:CODE"`
	Title    string `json:"title,omitempty"`
	Status   int    `json:"status,omitempty"`
	Code     string `json:"code" doc:"stable: branch on it"`
	Detail   string `json:"detail,omitempty" doc:"for people"`
	Field    string `json:"field,omitempty" doc:"the field or query parameter that breaks a rule"`
	Reason   string `json:"reason,omitempty" doc:"the rule, with its limit"`
	Instance string `json:"instance,omitempty" doc:"id of the request, as in the log and in X-Request-Id"`
	Ticket   string `json:"ticket,omitempty" doc:"held: the place in the line; come back with it within a second"`
	Position int    `json:"position,omitempty" doc:"held: 1 is the head of the line"`
	Part     string `json:"part,omitempty" enum:"id,settle,publish,release,require" doc:"the part of a commit that could not be done, so that nothing was"`
	Index    int    `json:"index,omitempty" doc:"which of the part; 0 if it is missing"`

	Cycle []Waiting `json:"cycle,omitempty" doc:"deadlock: who waited for whom, each for the next and the last for the first"`
}

// Waiting is a wait of a deadlock.
type Waiting struct {
	Owner  string `json:"owner" doc:"the holder that keeps what others want while this wait lasts"`
	Holder string `json:"holder" doc:"of the request that waits"`
	Name   string `json:"name" doc:"what it waits for"`
	Behind bool   `json:"behind,omitempty" doc:"the next owner is ahead in the line of the name, and does not hold it"`
}

// NewProblem makes a problem about a field; "" is about none.
func NewProblem(code, field, reason string) *Problem {
	info := infoOf(code)
	detail := strings.TrimSpace(field + " " + reason)
	if field == "" {
		detail, reason = reason, ""
	}
	return &Problem{
		Type: "urn:lockkeeper:problem:" + code, Title: info.title, Status: info.status,
		Code: code, Detail: detail, Field: field, Reason: reason,
	}
}

// ProblemOf returns what an error is on the wire. An error of no known kind is
// CodeInternal.
func ProblemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var failed *queuedriver.CommitError
	if errors.As(err, &failed) {
		p := *ProblemOf(failed.Err)
		p.Detail, p.Part, p.Index = failed.Error(), string(failed.Part), failed.Index
		return &p
	}
	var f *lease.FieldError
	if errors.As(err, &f) {
		return NewProblem(CodeInvalid, wireField(f.Field), f.Reason)
	}
	code := CodeInternal
	for _, c := range codes {
		if errors.Is(err, c.err) {
			code = c.code
			break
		}
	}
	if code == CodeInternal && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		code = CodeUnknown
	}
	p = NewProblem(code, "", err.Error())
	var d *lockdriver.DeadlockError
	if errors.As(err, &d) {
		for _, w := range d.Cycle {
			p.Cycle = append(p.Cycle, Waiting(w))
		}
	}
	return p
}

// OutcomeOf is ProblemOf for lists of outcomes; nil stays nil.
func OutcomeOf(err error) *Problem {
	if err == nil {
		return nil
	}
	p := *ProblemOf(err)
	p.Type, p.Title, p.Status = "", "", 0
	return &p
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Code
	}
	return p.Detail
}

// Unwrap returns the sentinel that the code stands for.
func (p *Problem) Unwrap() error { return infoOf(p.Code).err }

// Err returns the Go error that became p at the other end: the same sentinel
// by errors.Is, or the *lease.FieldError. nil stays nil.
func (p *Problem) Err() error {
	if p == nil {
		return nil
	}
	if p.Part != "" {
		inner := *p
		inner.Part, inner.Index, inner.Detail = "", 0, strings.TrimPrefix(p.Detail, (&queuedriver.CommitError{Part: queuedriver.Part(p.Part), Index: p.Index, Err: errors.New("")}).Error())
		return &queuedriver.CommitError{Part: queuedriver.Part(p.Part), Index: p.Index, Err: inner.Err()}
	}
	if p.Field != "" && errors.Is(infoOf(p.Code).err, lease.ErrInvalid) {
		return &lease.FieldError{Field: driverField(p.Field), Reason: p.Reason}
	}
	if len(p.Cycle) > 0 {
		d := &lockdriver.DeadlockError{}
		for _, w := range p.Cycle {
			d.Cycle = append(d.Cycle, lockdriver.Waiting(w))
		}
		return d
	}
	return &remoteError{text: p.Error(), kind: infoOf(p.Code).err}
}

type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// durations are the fields of the drivers' requests that are named with their
// unit on the wire.
var durations = []string{"ttl", "lock_delay", "wait", "lease", "delay", "dedup_window", "backoff.min", "backoff.max", "result_for"}

func wireField(field string) string {
	for _, d := range durations {
		if field == d || strings.HasSuffix(field, "."+d) {
			return field + "_ms"
		}
	}
	return field
}

func driverField(field string) string { return strings.TrimSuffix(field, "_ms") }
