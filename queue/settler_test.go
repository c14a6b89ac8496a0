package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// given receives n deliveries of as many messages.
func given(t *testing.T, b *Broker, c *fakeConn, n int) (ds []*Delivery) {
	t.Helper()
	for range n {
		c.put(msg("x"))
	}
	cons, err := b.Consumer(t.Context(), "q", nil)
	if err != nil {
		t.Fatal(err)
	}
	for len(ds) < n {
		got, err := cons.Receive(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, got...)
	}
	return ds
}

// A Settle that is given up before it was sent did nothing; one after that is
// unknown. Both may be made again.
func TestSettleIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		ds := given(t, b, c, 2)
		gate := make(chan struct{})
		c.set(func() { c.onSettle = func(context.Context, []driver.Settlement) error { <-gate; return nil } })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- ds[0].Ack(ctx) }()
		synctest.Wait() // the first is under way
		go func() { second <- ds[1].Ack(ctx) }()
		synctest.Wait()
		wantIs(t, ds[0].Ack(t.Context()), ErrConflict)
		err := <-first
		wantIs(t, err, ErrUnknown)
		wantIs(t, err, context.DeadlineExceeded)
		err = <-second
		wantIs(t, err, context.DeadlineExceeded)
		if errors.Is(err, ErrUnknown) {
			t.Errorf("one that was never sent: %v", err)
		}
		close(gate)
		synctest.Wait()
		if len(c.settled) != 1 {
			t.Errorf("settled %v, want the first only", c.settled)
		}
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
		if err := ds[1].Ack(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A delivery that is not held is refused, and only that one.
func TestSettleOutcomesOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		ds := given(t, b, c, 3)
		c.mu.Lock()
		delete(c.flying, ds[1].Seq())
		c.mu.Unlock()
		for i, d := range ds {
			err := d.Settle(t.Context(), NackVerdict(time.Second, "later"))
			if i == 1 {
				wantIs(t, err, ErrNotHeld)
			} else if err != nil {
				t.Error(err)
			}
		}
		if ds[2].Token() <= ds[0].Token() {
			t.Errorf("token %d after %d", ds[2].Token(), ds[0].Token())
		}
	})
}

// A settlement that was certainly not carried out is made again, but not
// past the lease.
func TestSettleInsistsWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		ds := given(t, b, c, 2)
		fails := 3
		c.set(func() {
			c.onSettle = func(context.Context, []driver.Settlement) error {
				if fails--; fails >= 0 {
					return ErrUnavailable
				}
				return nil
			}
		})
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Error(err)
		}
		c.set(func() { c.onSettle = func(context.Context, []driver.Settlement) error { return ErrUnavailable } })
		began := time.Now()
		wantIs(t, ds[1].Ack(t.Context()), ErrNotHeld)
		wantIs(t, context.Cause(ds[1].Context()), ErrExpired)
		if took := time.Since(began); took > fakeLease+maxPause {
			t.Errorf("it insisted for %v on a lease of %v", took, fakeLease)
		}
	})
}

// short returns fewer outcomes and receipts than it was asked for.
type short struct{ *fakeConn }

func (s short) Settle(context.Context, []driver.Settlement) ([]driver.Outcome, error) {
	return nil, nil
}

func (s short) Publish(context.Context, []driver.Publishing) ([]driver.Receipt, error) {
	return nil, nil
}

// A driver that answers for less than it was asked leaves the rest unknown.
func TestShortAnswersAreUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		b.conn = short{c}
		b.settler.conn = short{c}
		d := given(t, b, c, 1)[0]
		wantIs(t, d.Ack(t.Context()), ErrUnknown)
		wantIs(t, d.Extend(t.Context(), 0), ErrUnknown)
		_, err := b.Publish(t.Context(), Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrUnknown)
	})
}

// One that is given up while its batch waits is left out; the others get the
// outcomes that are theirs.
func TestOneOfABatchIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		ds := given(t, b, c, 4)
		gate := make(chan struct{})
		c.set(func() { c.onSettle = func(context.Context, []driver.Settlement) error { <-gate; return nil } })
		ctx, cancel := context.WithCancel(t.Context())
		errs := make([]chan error, len(ds))
		for i, d := range ds {
			errs[i] = make(chan error, 1)
			bound := t.Context()
			if i == 2 {
				bound = ctx
			}
			go func() { errs[i] <- d.Ack(bound) }()
			synctest.Wait() // the first is under way; the others are a batch behind it
		}
		c.mu.Lock()
		delete(c.flying, ds[1].Seq()) // its outcome is ErrNotHeld
		c.mu.Unlock()
		cancel()
		wantIs(t, <-errs[2], context.Canceled)
		close(gate)
		wantIs(t, <-errs[1], ErrNotHeld)
		for _, i := range []int{0, 3} {
			if err := <-errs[i]; err != nil {
				t.Errorf("delivery %d: %v", i, err)
			}
		}
		if len(c.settled) != 2 || c.settled[1].Ref.Seq != ds[3].Seq() {
			t.Errorf("settled %+v, want the first and the last", c.settled)
		}
		if err := ds[2].Ack(t.Context()); err != nil {
			t.Errorf("the one that was given up: %v", err)
		}
	})
}

// A batch that is full does not wait for the call before it; what is behind it
// does. No more than settleCalls are under way.
func TestFullBatchesAreSettledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		var sizes []int
		gate := make(chan struct{})
		c.onSettle = func(_ context.Context, ss []driver.Settlement) error {
			c.mu.Lock()
			sizes = append(sizes, len(ss))
			c.mu.Unlock()
			<-gate
			return nil
		}
		var acks sync.WaitGroup
		ack := func(n int) {
			for range n {
				acks.Go(func() {
					b.settler.settle(t.Context(), driver.Settlement{Ref: driver.Ref{Queue: "q"}, Verb: driver.Ack})
				})
			}
			synctest.Wait()
		}
		for i, step := range []struct {
			acks int
			want []int
		}{
			{1, []int{1}},
			{settleBatch - 1, []int{1}},
			{1, []int{1, settleBatch}},
			{2*settleBatch + 1, []int{1, settleBatch, settleBatch, settleBatch}},
			{settleBatch, []int{1, settleBatch, settleBatch, settleBatch}},
		} {
			ack(step.acks)
			if !slices.Equal(sizes, step.want) {
				t.Errorf("step %d: calls of %v, want %v", i, sizes, step.want)
			}
		}
		close(gate)
		acks.Wait()
		if n := len(c.settled); n != 0 || len(sizes) != 6 {
			t.Errorf("%d calls, want 6; %d of unknown deliveries were settled", len(sizes), n)
		}
	})
}
