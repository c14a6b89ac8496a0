package driver

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Limits of a Txn. They are such that any commit fits into one write of the
// backend.
const (
	MaxCommitSettle  = 1000     // deliveries
	MaxCommitPublish = 1000     // messages
	MaxCommitBytes   = 16 << 20 // bodies together
	MaxCommitLocks   = 100      // of Release and Require together
	MaxCommitID      = 128      // bytes
	MaxResult        = 64 << 10 // bytes
	MaxResultFor     = 31 * 24 * time.Hour

	MinResultFor     = time.Second
	DefaultResultFor = 24 * time.Hour
)

// Txn is what is done together or not at all.
type Txn struct {
	// ID, if it is not empty, makes a repeat harmless: the backend remembers
	// the outcome under it for ResultFor, and a Txn with the same ID and the
	// same content is answered from there and changes nothing. It is a name
	// among all commits of the backend: up to MaxCommitID bytes.
	ID string

	Settle  []Settlement // Ack, Nack, Release and Reject, each delivery once
	Publish []Publishing
	Release []LockRef // that must be held, and are not afterwards
	Require []LockRef // that must be held, and stay so

	// Result is kept with the outcome: up to MaxResult bytes. It needs an ID.
	Result []byte
	// ResultFor is for how long, by the backend's clock, the outcome is
	// remembered: MinResultFor to MaxResultFor; 0 means DefaultResultFor. It
	// needs an ID.
	ResultFor time.Duration
}

// LockRef names one grant of a lock in the same store as the queues.
type LockRef struct {
	Name   string
	Holder string
	Token  lease.Token
}

// TxnResult is the outcome of a commit.
type TxnResult struct {
	Settled  []Outcome // one for each of Txn.Settle; none has an Err
	Receipts []Receipt // one for each of Txn.Publish; none has an Err
	Result   []byte    // Txn.Result
	Repeated bool      // an earlier commit with this ID did it; this one changed nothing
}

// Part of a Txn, named in a CommitError.
type Part string

// Parts of a Txn.
const (
	PartID      Part = "id"
	PartSettle  Part = "settle"
	PartPublish Part = "publish"
	PartRelease Part = "release"
	PartRequire Part = "require"
)

// CommitError says which part of a Txn could not be done, so that nothing of
// it was. It matches what Err matches.
type CommitError struct {
	Part  Part
	Index int // within the part; 0 for the ID
	Err   error
}

// Error implements error.
func (e *CommitError) Error() string {
	if e.Part == PartID {
		return fmt.Sprintf("id: %v", e.Err)
	}
	return fmt.Sprintf("%s[%d]: %v", e.Part, e.Index, e.Err)
}

// Unwrap returns the reason.
func (e *CommitError) Unwrap() error { return e.Err }

// ValidateCommitID returns a *lease.FieldError unless id can be Txn.ID, and is
// not empty.
func ValidateCommitID(field, id string) error { return lease.ValidateText(field, id, 1, MaxCommitID) }

// Validate checks everything about a Txn that does not depend on the state of
// the backend, and fills in defaults. Headers must have been normalized. What
// the backend lacks is lease.ErrUnsupported.
func (t *Txn) Validate(c *Caps) error {
	if !c.Commit {
		return fmt.Errorf("commit: %w", lease.ErrUnsupported)
	}
	if t.ID == "" && len(t.Settle)+len(t.Publish)+len(t.Release)+len(t.Require) == 0 {
		return lease.Invalidf("commit", "must have an id, or something to do")
	}
	if err := t.validateResult(); err != nil {
		return err
	}
	if err := t.validateSettle(c); err != nil {
		return err
	}
	if err := t.validatePublish(); err != nil {
		return err
	}
	return t.validateLocks(c)
}

func (t *Txn) validateResult() error {
	if t.ID == "" {
		if len(t.Result) > 0 {
			return lease.Invalidf("result", "needs an id, under which it is kept")
		}
		if t.ResultFor != 0 {
			return lease.Invalidf("result_for", "needs an id")
		}
		return nil
	}
	if err := ValidateCommitID("id", t.ID); err != nil {
		return err
	}
	if len(t.Result) > MaxResult {
		return lease.Invalidf("result", "must be at most %d bytes, has %d", MaxResult, len(t.Result))
	}
	if t.ResultFor == 0 {
		t.ResultFor = DefaultResultFor
	}
	return validDuration("result_for", t.ResultFor, MinResultFor, MaxResultFor)
}

func (t *Txn) validateSettle(c *Caps) error {
	if len(t.Settle) > MaxCommitSettle {
		return lease.Invalidf("settle", "must be at most %d, are %d", MaxCommitSettle, len(t.Settle))
	}
	type place struct {
		queue string
		seq   uint64
	}
	seen := make(map[place]bool, len(t.Settle))
	for i := range t.Settle {
		s := &t.Settle[i]
		err := s.Validate(c)
		switch at := (place{s.Ref.Queue, s.Ref.Seq}); {
		case err != nil:
		case s.Verb == Extend:
			err = lease.Invalidf("verb", "must be ack, nack, release or reject: a commit extends nothing")
		case seen[at]:
			err = lease.Invalidf("delivery", "is named twice")
		default:
			seen[at] = true
		}
		if err != nil {
			return inPart(err, PartSettle, i)
		}
	}
	return nil
}

func (t *Txn) validatePublish() error {
	if len(t.Publish) > MaxCommitPublish {
		return lease.Invalidf("publish", "must be at most %d, are %d", MaxCommitPublish, len(t.Publish))
	}
	size := 0
	for i := range t.Publish {
		if err := t.Publish[i].Validate(); err != nil {
			return inPart(err, PartPublish, i)
		}
		size += len(t.Publish[i].Message.Body)
	}
	if size > MaxCommitBytes {
		return lease.Invalidf("publish", "must have bodies of at most %d bytes together, have %d", MaxCommitBytes, size)
	}
	return nil
}

func (t *Txn) validateLocks(c *Caps) error {
	n := len(t.Release) + len(t.Require)
	if n == 0 {
		return nil
	}
	if c.Store == "" {
		return fmt.Errorf("commit with locks: %w: there are none beside its queues", lease.ErrUnsupported)
	}
	if n > MaxCommitLocks {
		return lease.Invalidf("release", "and require must name at most %d locks, name %d", MaxCommitLocks, n)
	}
	seen := make(map[LockRef]bool, n)
	for _, part := range [...]struct {
		name  Part
		locks []LockRef
	}{{PartRelease, t.Release}, {PartRequire, t.Require}} {
		for i, l := range part.locks {
			err := l.validate()
			if err == nil && seen[l] {
				err = lease.Invalidf("name", "is named twice")
			}
			if err != nil {
				return inPart(err, part.name, i)
			}
			seen[l] = true
		}
	}
	return nil
}

// Limits of a LockRef: those of package lock.
const (
	maxLockName   = 512
	maxLockHolder = 128
)

func (l *LockRef) validate() error {
	if err := lease.ValidateText("name", l.Name, 1, maxLockName); err != nil {
		return err
	}
	if err := lease.ValidateText("holder", l.Holder, 1, maxLockHolder); err != nil {
		return err
	}
	if l.Token == 0 {
		return lease.Invalidf("token", "is missing")
	}
	return nil
}

// inPart names the element of a part that a FieldError is about, also where
// it is the only one.
func inPart(err error, part Part, i int) error { return inBatch(err, string(part), i, 0) }
