package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Txn is what Commit does together or not at all. Package driver has the
// limits: driver.MaxCommitSettle and the constants around it.
type Txn struct {
	// ID makes a repeat harmless: the backend remembers the outcome under it
	// for ResultFor, and answers a Txn with the same ID and the same content
	// from there. The tokens of deliveries and locks are no content: after a
	// crash the same work may come with others. "" is no ID.
	//
	// It names one piece of work among all commits of the backend. What the
	// work is derived from makes a good one: "order/42/pay".
	ID string

	Settle  []Settling // deliveries of this Broker, each once; see Acks
	Publish []Posting  // see To
	Release []Lock     // must be held, and are not afterwards
	Require []Lock     // must be held, and stay so: a fence for the whole

	// Result is kept with the outcome, for Broker.Result and for a repeat. It
	// needs an ID, as does ResultFor, for which 0 means
	// driver.DefaultResultFor.
	Result    []byte
	ResultFor time.Duration
}

// Settling is a delivery and how it ends. The zero Verdict acks it.
type Settling struct {
	Delivery *Delivery
	Verdict  Verdict
}

// Posting is a message and where it goes.
type Posting struct {
	Route    Route
	Message  *Message
	Optional bool // dropped if it matches no queue; otherwise the commit fails with ErrUnroutable
}

// Lock is a lock that is held in the same store as the queues: *lock.Lease is
// one, from lock.Open with the URL of the queues.
type Lock interface {
	Name() string
	Holder() string
	Token() Token
	// Committing is called before a commit that releases the lock is sent,
	// and done once its outcome is known, or known to stay unknown.
	Committing() (done func(released, repeated bool))
}

// Acks is a Settle of a Txn that acks deliveries.
func Acks(ds ...*Delivery) []Settling {
	ss := make([]Settling, len(ds))
	for i, d := range ds {
		ss[i].Delivery = d
	}
	return ss
}

// To is a Publish of a Txn that sends messages to one route.
func To(r Route, ms ...*Message) []Posting {
	ps := make([]Posting, len(ms))
	for i, m := range ms {
		ps[i] = Posting{Route: r, Message: m}
	}
	return ps
}

// Commit does everything in t, or nothing: then the error is a *CommitError
// that says which part stood in the way, and matches what that part alone
// would have failed with (ErrNotHeld, ErrUnroutable, ErrConflict for an ID
// that did something else). A duplicate by message ID is no failure; its
// receipt says so.
//
// An attempt that was certainly not carried out is made again until ctx ends
// or Config.RetryFor has passed. So is one whose outcome is unknown, if t has
// an ID; without one the error is ErrUnknown at once. After ErrUnknown the
// same Txn with its ID may be committed again, later or by another process.
//
// A message without an ID gets one: with a Txn.ID always the same one, made
// from it, otherwise a random one. When Commit returns nil, the deliveries
// and the locks to release have ended, as by Settle and Release.
func (b *Broker) Commit(ctx context.Context, t *Txn) (*TxnResult, error) {
	r, err := b.commit(ctx, t)
	name := ""
	if t != nil {
		name = t.ID
	}
	return r, wrap("commit", name, err)
}

func (b *Broker) commit(ctx context.Context, t *Txn) (*TxnResult, error) {
	if t == nil {
		return nil, lease.Invalidf("txn", "is missing")
	}
	own, err := b.prepareTxn(ctx, t)
	if err != nil {
		return nil, err
	}
	c := &committing{settle: t.Settle, id: t.ID}
	if err := c.claim(); err != nil {
		return nil, err
	}
	for _, l := range t.Release {
		c.locks = append(c.locks, l.Committing())
	}
	var r *TxnResult
	err = b.retryCommit(ctx, own, func() (err error) {
		r, err = b.commitOnce(ctx, own)
		return err
	})
	c.done(r, err)
	return r, err
}

// prepareTxn turns what the caller gave into what the driver takes, validated.
func (b *Broker) prepareTxn(ctx context.Context, t *Txn) (*driver.Txn, error) {
	own := &driver.Txn{ID: t.ID, Result: t.Result, ResultFor: t.ResultFor}
	for i, s := range t.Settle {
		if s.Delivery == nil || s.Delivery.b != b {
			return nil, lease.Invalidf("settle["+strconv.Itoa(i)+"].delivery", "must be one that this Broker has received")
		}
		v := s.Verdict
		if v == (Verdict{}) {
			v = AckVerdict()
		}
		own.Settle = append(own.Settle, v.settlement(s.Delivery.ref))
	}
	for i, p := range t.Publish {
		m := p.Message
		if m != nil && m.ID == "" && t.ID != "" {
			named := *m
			named.ID = partID(t.ID, i)
			m = &named
		}
		pub, err := b.prepare(ctx, p.Route, m, !p.Optional)
		if err != nil {
			return nil, &CommitError{Part: driver.PartPublish, Index: i, Err: err}
		}
		own.Publish = append(own.Publish, pub)
	}
	for i, part := range [...][]Lock{t.Release, t.Require} {
		for j, l := range part {
			if l == nil {
				return nil, lease.Invalidf([]string{"release", "require"}[i]+"["+strconv.Itoa(j)+"]", "is missing")
			}
			ref := driver.LockRef{Name: l.Name(), Holder: l.Holder(), Token: l.Token()}
			if i == 0 {
				own.Release = append(own.Release, ref)
			} else {
				own.Require = append(own.Require, ref)
			}
		}
	}
	err := own.Validate(&b.caps)
	return own, err
}

// partID makes the ID of the n-th message of a commit.
func partID(id string, n int) string {
	part := id + "/" + strconv.Itoa(n)
	if len(part) <= driver.MaxID {
		return part
	}
	sum := sha256.Sum256([]byte(part))
	return hex.EncodeToString(sum[:16])
}

func (b *Broker) commitOnce(ctx context.Context, t *driver.Txn) (*TxnResult, error) {
	if b.isClosed() {
		return nil, ErrClosed
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r, err := b.conn.Commit(ctx, t)
	if err != nil {
		return nil, overdue(ctx, err)
	}
	if len(r.Settled) != len(t.Settle) || len(r.Receipts) != len(t.Publish) {
		return nil, fmt.Errorf("%w: the driver returned %d outcomes and %d receipts for %d deliveries and %d messages",
			ErrUnknown, len(r.Settled), len(r.Receipts), len(t.Settle), len(t.Publish))
	}
	return r, nil
}

// retryCommit is retry, which with an ID makes also those attempts again whose
// outcome is unknown. What an attempt says then is about the earlier ones too:
// the backend remembers if one was carried out, so that there is time for half
// of that at most. But if no attempt says anything, the outcome stays unknown.
func (b *Broker) retryCommit(ctx context.Context, t *driver.Txn, attempt func() error) error {
	within := b.retryFor
	if t.ID != "" {
		within = min(within, t.ResultFor/2)
	}
	var unknown error
	err := b.retry(ctx, within, func() error {
		err := attempt()
		if t.ID != "" && errors.Is(err, ErrUnknown) {
			unknown = err
			return fmt.Errorf("%w: %v", ErrUnavailable, err) //nolint:errorlint // it is to be made again, and kept in unknown
		}
		return err
	})
	if unknown != nil && err != nil && silent(err) {
		return unknown
	}
	return err
}

// silent reports whether an attempt ended without a word of the backend.
func silent(err error) bool {
	for _, target := range [...]error{ErrUnavailable, ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Result returns the outcome of the commit with this ID, with Repeated set.
// ErrNotFound if there was none, or its ResultFor has passed. It is for asking
// whether work was done before doing it.
func (b *Broker) Result(ctx context.Context, id string) (*TxnResult, error) {
	err := driver.ValidateCommitID("id", id)
	if err == nil && !b.caps.Commit {
		err = ErrUnsupported
	}
	if err != nil {
		return nil, wrap("read the result of commit", id, err)
	}
	r, err := b.conn.Result(ctx, id)
	return r, wrap("read the result of commit", id, err)
}
