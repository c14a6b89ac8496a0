package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// CommitRequest is what is done together or not at all: POST /v1/commit.
type CommitRequest struct {
	ID           string         `json:"id,omitempty" doc:"1 to 128 bytes: makes a repeat harmless, which is answered with what the first one did"`
	Settle       []CommitSettle `json:"settle,omitempty" doc:"at most 1000, each delivery once"`
	Publish      []Publishing   `json:"publish,omitempty" doc:"at most 1000, with bodies of 16 MiB together"`
	Release      []LeaseRef     `json:"release,omitempty" doc:"locks that must be held, and are not afterwards"`
	Require      []LeaseRef     `json:"require,omitempty" doc:"locks that must be held, and stay so"`
	Result       *string        `json:"result,omitempty" doc:"kept under id, up to 64 KiB: text"`
	ResultBase64 *[]byte        `json:"result_base64,omitempty" doc:"a result that is not text"`
	ResultFor    Millis         `json:"result_for_ms,omitempty" doc:"for how long the outcome is kept under id, up to 31 days; a day without it"`
}

// CommitSettle ends one delivery within a commit.
type CommitSettle struct {
	Delivery string `json:"delivery" doc:"handle"`
	Verb     string `json:"verb,omitempty" enum:"ack,nack,release,reject" doc:"ack without it"`
	Delay    Millis `json:"delay_ms,omitempty" doc:"of a nack"`
	Backoff  bool   `json:"backoff,omitempty" doc:"of a nack: the queue's backoff instead of delay_ms"`
	Reason   string `json:"reason,omitempty" doc:"of a nack or a reject"`
}

// CommitReply is the outcome of a commit, and of GET /v1/commit.
type CommitReply struct {
	Repeated     bool            `json:"repeated,omitempty" doc:"an earlier commit with this id did it; this one changed nothing"`
	Settled      []CommitOutcome `json:"settled" doc:"one for each of settle"`
	Receipts     []Receipt       `json:"receipts" doc:"one for each of publish"`
	Result       *string         `json:"result,omitempty"`
	ResultBase64 *[]byte         `json:"result_base64,omitempty" doc:"a result that is not text"`
}

// CommitOutcome is what became of one delivery.
type CommitOutcome struct {
	DeadLettered bool `json:"dead_lettered,omitempty"`
}

// commitVerbs are those of Verbs that a commit knows.
var commitVerbs = Verbs[:4]

// NewCommitRequest is the wire form of t. It fails for what JSON cannot carry.
func NewCommitRequest(t *queuedriver.Txn) ([]byte, error) {
	head := CommitRequest{ID: t.ID, Release: leaseRefs(t.Release), Require: leaseRefs(t.Require), ResultFor: Ceil(t.ResultFor)}
	if len(t.Result) > 0 {
		head.Result, head.ResultBase64 = textOrBytes(t.Result)
	}
	for i := range t.Settle {
		s := &t.Settle[i]
		head.Settle = append(head.Settle, CommitSettle{
			Delivery: EncodeHandle(s.Ref), Verb: commitVerbs[s.Verb-queuedriver.Ack], Delay: Ceil(s.Delay), Backoff: s.Backoff, Reason: s.Reason,
		})
	}
	if err := CheckText(head); err != nil {
		return nil, err
	}
	messages, size := make([]json.RawMessage, len(t.Publish)), 0
	for i := range t.Publish {
		var err error
		if messages[i], err = NewPublishing(&t.Publish[i]); err != nil {
			return nil, err
		}
		size += len(messages[i]) + 1
	}
	b, err := Encode(head)
	if err != nil {
		return nil, lease.Invalidf("commit", "cannot be sent as JSON: %v", err)
	}
	return appendMessages(b, messages, size), nil
}

// appendMessages puts messages of so many bytes into the object b, as they
// are: the encoder would look at each byte of them twice more.
func appendMessages(b []byte, messages []json.RawMessage, size int) []byte {
	if len(messages) == 0 {
		return b
	}
	b = bytes.TrimSpace(b)
	b = slices.Grow(b[:len(b)-1], size+len(`,"publish":[]}`))
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, `"publish":[`...)
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m...)
	}
	return append(b, `]}`...)
}

func leaseRefs(locks []queuedriver.LockRef) []LeaseRef {
	out := make([]LeaseRef, len(locks))
	for i, l := range locks {
		out[i] = LeaseRef(l)
	}
	return out
}

func textOrBytes(b []byte) (*string, *[]byte) {
	if isBodyText(b) {
		text := string(b)
		return &text, nil
	}
	return nil, &b
}

// Driver is the inverse of NewCommitRequest. What a driver's Validate finds is
// not looked for, but for the messages.
func (r *CommitRequest) Driver() (*queuedriver.Txn, error) {
	t := &queuedriver.Txn{ID: r.ID, Release: lockRefs(r.Release), Require: lockRefs(r.Require), ResultFor: r.ResultFor.Duration()}
	var err error
	if t.Result, err = bytesOf(r.Result, r.ResultBase64); err != nil {
		return nil, err
	}
	for i := range r.Settle {
		s, err := r.Settle[i].driver(Indexed("settle", i))
		if err != nil {
			return nil, err
		}
		t.Settle = append(t.Settle, s)
	}
	for i := range r.Publish {
		p, err := r.Publish[i].Driver(Indexed("publish", i))
		if err != nil {
			return nil, err
		}
		t.Publish = append(t.Publish, p)
	}
	return t, nil
}

func bytesOf(text *string, raw *[]byte) ([]byte, error) {
	switch {
	case text != nil && raw != nil:
		return nil, lease.Invalidf("result", "excludes result_base64: give one of them")
	case text != nil:
		return []byte(*text), nil
	case raw != nil:
		return *raw, nil
	}
	return nil, nil
}

func (s *CommitSettle) driver(field string) (queuedriver.Settlement, error) {
	out := queuedriver.Settlement{Delay: s.Delay.Duration(), Backoff: s.Backoff, Reason: s.Reason}
	if s.Verb == "" {
		out.Verb = queuedriver.Ack
	}
	for i, verb := range commitVerbs {
		if s.Verb == verb {
			out.Verb = queuedriver.Ack + queuedriver.Verb(i)
		}
	}
	if out.Verb == 0 {
		return out, lease.Invalidf(field+".verb", "must be ack, nack, release or reject, is %q", s.Verb)
	}
	var err error
	out.Ref, err = DecodeHandle(field+".delivery", s.Delivery)
	return out, err
}

func lockRefs(refs []LeaseRef) []queuedriver.LockRef {
	out := make([]queuedriver.LockRef, len(refs))
	for i, r := range refs {
		out[i] = queuedriver.LockRef(r)
	}
	return out
}

// NewCommitReply is the wire form of r.
func NewCommitReply(r *queuedriver.TxnResult) *CommitReply {
	out := &CommitReply{Repeated: r.Repeated, Settled: make([]CommitOutcome, len(r.Settled)), Receipts: make([]Receipt, len(r.Receipts))}
	for i := range r.Settled {
		out.Settled[i].DeadLettered = r.Settled[i].DeadLettered
	}
	for i := range r.Receipts {
		out.Receipts[i] = NewReceipt(&r.Receipts[i])
	}
	if len(r.Result) > 0 {
		out.Result, out.ResultBase64 = textOrBytes(r.Result)
	}
	return out
}

// Driver is the inverse of NewCommitReply.
func (r *CommitReply) Driver() (*queuedriver.TxnResult, error) {
	out := &queuedriver.TxnResult{Repeated: r.Repeated}
	for i := range r.Settled {
		out.Settled = append(out.Settled, queuedriver.Outcome{DeadLettered: r.Settled[i].DeadLettered})
	}
	for i := range r.Receipts {
		out.Receipts = append(out.Receipts, r.Receipts[i].Driver())
	}
	var err error
	if out.Result, err = bytesOf(r.Result, r.ResultBase64); err != nil {
		return nil, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnknown, err)
	}
	return out, nil
}
