package queue

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// commitConn is a fake that commits as its answers say, one for each attempt;
// the last goes on. nil is success, which settles.
type commitConn struct {
	*fakeConn
	answers  []error
	before   func() // each attempt
	attempts []*driver.Txn
	repeated bool
}

func (c *commitConn) Caps() driver.Caps {
	caps := c.fakeConn.Caps()
	caps.Commit, caps.Store = true, "fake"
	return caps
}

func (c *commitConn) Commit(ctx context.Context, t *driver.Txn) (*driver.TxnResult, error) {
	if c.before != nil {
		c.before()
	}
	n := len(c.attempts)
	c.attempts = append(c.attempts, t)
	if len(c.answers) > 0 {
		if err := c.answers[min(n, len(c.answers)-1)]; err != nil {
			return nil, err
		}
	}
	out, err := c.Settle(ctx, t.Settle)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Err = nil
	}
	rs, err := c.Publish(ctx, t.Publish)
	return &driver.TxnResult{Settled: out, Receipts: rs, Result: t.Result, Repeated: c.repeated}, err
}

// fakeLock notes how it was told to end.
type fakeLock struct {
	told               atomic.Int32
	released, repeated bool
}

func (*fakeLock) Name() string   { return "n" }
func (*fakeLock) Holder() string { return "h" }
func (*fakeLock) Token() Token   { return 7 }
func (l *fakeLock) Committing() func(released, repeated bool) {
	return func(released, repeated bool) {
		l.told.Add(1)
		l.released, l.repeated = released, repeated
	}
}

// inCommits runs f with a Broker that holds two deliveries.
func inCommits(t *testing.T, answers []error, f func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &commitConn{fakeConn: newFake(), answers: answers}
		b := New(c, &Config{Clock: lease.GoClock(), Logger: slog.New(slog.DiscardHandler), RetryFor: 30 * time.Second})
		defer b.Close()
		f(t, b, c, given(t, b, c.fakeConn, 2))
	})
}

func TestCommitEndsWhatItEnded(t *testing.T) {
	inCommits(t, nil, func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery) {
		l := &fakeLock{}
		r, err := b.Commit(t.Context(), &Txn{
			Settle:  []Settling{{Delivery: ds[0]}, {ds[1], RejectVerdict("no")}},
			Publish: To(Route{Key: "q"}, msg("x"), msg("y")),
			Release: []Lock{l},
		})
		if err != nil || len(r.Receipts) != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, d := range ds {
			wantIs(t, context.Cause(d.Context()), ErrReleased)
			wantIs(t, d.Ack(t.Context()), ErrNotHeld)
		}
		if l.told.Load() != 1 || !l.released || l.repeated {
			t.Errorf("the lock was told %+v", l)
		}
		sent := c.attempts[0]
		if sent.Settle[0].Verb != driver.Ack || sent.Settle[1].Verb != driver.Reject || sent.Release[0] != (driver.LockRef{Name: "n", Holder: "h", Token: 7}) {
			t.Errorf("sent %+v", sent)
		}
	})
}

func TestCommitThatFailsEndsNothing(t *testing.T) {
	failure := &driver.CommitError{Part: driver.PartPublish, Index: 1, Err: ErrUnroutable}
	inCommits(t, []error{failure}, func(t *testing.T, b *Broker, _ *commitConn, ds []*Delivery) {
		l := &fakeLock{}
		_, err := b.Commit(t.Context(), &Txn{ID: "id", Settle: Acks(ds...), Release: []Lock{l}})
		wantIs(t, err, ErrUnroutable)
		var failed *CommitError
		if !errors.As(err, &failed) || failed.Index != 1 || !strings.Contains(err.Error(), `commit "id"`) {
			t.Errorf("%v", err)
		}
		for _, d := range ds {
			if err := d.Ack(t.Context()); err != nil {
				t.Errorf("Ack after a commit that failed: %v", err)
			}
		}
		if l.told.Load() != 1 || l.released {
			t.Errorf("the lock was told %+v", l)
		}
	})
}

// The delivery that is not held is known to be lost, the others go on.
func TestCommitFindsALostDelivery(t *testing.T) {
	failure := &driver.CommitError{Part: driver.PartSettle, Index: 1, Err: ErrNotHeld}
	inCommits(t, []error{failure}, func(t *testing.T, b *Broker, _ *commitConn, ds []*Delivery) {
		_, err := b.Commit(t.Context(), &Txn{Settle: Acks(ds...)})
		wantIs(t, err, ErrNotHeld)
		wantIs(t, context.Cause(ds[1].Context()), ErrLost)
		_, err = b.Commit(t.Context(), &Txn{Settle: Acks(ds[1])}) // it is not sent
		wantIs(t, err, ErrNotHeld)
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Without an ID an unknown outcome is told at once. With one it is asked for
// again, until the backend says something.
func TestCommitWithUnknownOutcome(t *testing.T) {
	lost := []error{ErrUnknown, ErrUnavailable, ErrUnknown, nil}
	inCommits(t, lost, func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery) {
		l := &fakeLock{}
		_, err := b.Commit(t.Context(), &Txn{Settle: Acks(ds[0]), Release: []Lock{l}})
		wantIs(t, err, ErrUnknown)
		if len(c.attempts) != 1 || l.released || ds[0].Check() != nil {
			t.Errorf("%d attempts, lock %+v, delivery %v", len(c.attempts), l, ds[0].Check())
		}
		c.attempts = nil
		c.repeated = true
		r, err := b.Commit(t.Context(), &Txn{ID: "id", Settle: Acks(ds...), Publish: To(Route{Key: "q"}, msg("x")), Release: []Lock{l}})
		if err != nil || !r.Repeated || len(c.attempts) != 4 {
			t.Fatalf("%d attempts, %+v, %v", len(c.attempts), r, err)
		}
		if !l.released || !l.repeated {
			t.Errorf("the lock was told %+v", l)
		}
		wantIs(t, context.Cause(ds[0].Context()), ErrReleased)
		if id := c.attempts[3].Publish[0].Message.ID; id != "id/0" {
			t.Errorf("the message has the ID %q", id)
		}
	})
}

// What may have been carried out does not become certain by silence.
func TestCommitStaysUnknown(t *testing.T) {
	inCommits(t, []error{ErrUnknown, ErrUnavailable}, func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery) {
		began := time.Now()
		_, err := b.Commit(t.Context(), &Txn{ID: "id", Settle: Acks(ds...)})
		wantIs(t, err, ErrUnknown)
		if took := time.Since(began); took > 30*time.Second || len(c.attempts) < 10 {
			t.Errorf("%d attempts in %v", len(c.attempts), took)
		}
		began, c.attempts = time.Now(), nil
		_, err = b.Commit(t.Context(), &Txn{ID: "id", ResultFor: time.Second})
		wantIs(t, err, ErrUnknown)
		if took := time.Since(began); took > time.Second/2 { // the backend may have forgotten it then
			t.Errorf("a result that is kept for a second was asked for until %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.attempts = nil
		_, err = b.Commit(ctx, &Txn{ID: "id"})
		wantIs(t, err, ErrUnknown)
	})
	inCommits(t, []error{ErrUnavailable}, func(t *testing.T, b *Broker, _ *commitConn, ds []*Delivery) {
		_, err := b.Commit(t.Context(), &Txn{ID: "id", Settle: Acks(ds...)})
		wantIs(t, err, ErrUnavailable)
		if errors.Is(err, ErrUnknown) {
			t.Errorf("what was never carried out is %v", err)
		}
	})
}

// The extension of a delivery that finds it gone, while the answer to the
// commit that ended it is on the way, is no loss.
func TestCommitIsNoLoss(t *testing.T) {
	for name, answer := range map[string]error{"done": nil, "not done": ErrConflict} {
		t.Run(name, func(t *testing.T) {
			inCommits(t, []error{answer}, func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery) {
				c.before = func() {
					c.lose()
					pass(fakeLease / 2)
					if err := ds[0].Check(); err != nil {
						t.Errorf("in doubt it has ended: %v", err)
					}
					if err := ds[1].Ack(t.Context()); !errors.Is(err, ErrConflict) {
						t.Errorf("Ack during a commit: %v", err)
					}
				}
				_, err := b.Commit(t.Context(), &Txn{ID: "id", Settle: Acks(ds...)})
				wantIs(t, err, answer)
				pass(fakeLease / 4)
				want := ErrReleased
				if answer != nil {
					want = ErrLost
				}
				wantIs(t, context.Cause(ds[0].Context()), want)
			})
		})
	}
}

func TestCommitIsChecked(t *testing.T) {
	inCommits(t, nil, func(t *testing.T, b *Broker, c *commitConn, ds []*Delivery) {
		for field, txn := range map[string]*Txn{
			"txn":                  nil,
			"commit":               {},
			"settle[0].delivery":   {Settle: Acks(nil)},
			"settle[1].delivery":   {Settle: Acks(ds[0], ds[0])},
			"release[0]":           {Release: []Lock{nil}},
			"require[0]":           {Require: []Lock{nil}},
			"message":              {Publish: []Posting{{}}},
			"message.content_type": {Publish: To(Route{Key: "q"}, &Message{ContentType: "\x00"})},
			"result_for":           {ID: "id", ResultFor: 1},
		} {
			_, err := b.Commit(t.Context(), txn)
			var f *FieldError
			if !errors.As(err, &f) || f.Field != field {
				t.Errorf("%s: got %v", field, err)
			}
		}
		_, err := b.Result(t.Context(), "")
		wantIs(t, err, ErrInvalid)
		if len(c.attempts) > 0 {
			t.Errorf("sent %+v", c.attempts)
		}
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Errorf("Ack after an invalid commit: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, newFake())
		_, err := b.Commit(t.Context(), &Txn{ID: "id"})
		wantIs(t, err, ErrUnsupported)
		_, err = b.Result(t.Context(), "id")
		wantIs(t, err, ErrUnsupported)
	})
}

// IDs of messages are the same with every attempt, and within the limit.
func TestPartID(t *testing.T) {
	long := strings.Repeat("x", driver.MaxCommitID)
	if a, b := partID(long, 1), partID(long, 2); a == b || len(a) > driver.MaxID || a != partID(long, 1) {
		t.Errorf("%q, %q", a, b)
	}
}
