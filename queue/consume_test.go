package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestConsumerHandsBackOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("a"), msg("b"), msg("c"))
		cons, err := b.Consumer(t.Context(), "q", nil)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := cons.Receive(t.Context(), 1)
		if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != "a" {
			t.Fatalf("got %v, %v", ds, err)
		}
		if err := cons.Close(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.verbs()); got != fmt.Sprint([]driver.Verb{driver.Release, driver.Release}) || c.detached != 1 {
			t.Errorf("settled %v, detached %d", got, c.detached)
		}
		_, err = cons.Receive(t.Context(), 1)
		wantIs(t, err, ErrClosed)
		time.Sleep(3 * fakeLease) // it is extended all the same
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Errorf("Ack after Close: %v", err)
		}
		wantIs(t, context.Cause(ds[0].Context()), ErrReleased)
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
	})
}

func TestPrefetchBoundsWhatIsLeased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		for range 10 {
			c.put(msg("x"))
		}
		cons, _ := b.Consumer(t.Context(), "q", &ConsumerOptions{Prefetch: 3})
		synctest.Wait()
		if len(c.flying) != 3 {
			t.Fatalf("%d are leased, want 3", len(c.flying))
		}
		ds, _ := cons.Receive(t.Context(), 10)
		synctest.Wait()
		if len(ds) != 3 || len(c.flying) != 3 {
			t.Fatalf("given %d, leased %d", len(ds), len(c.flying))
		}
		if err := ds[0].Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(c.flying) != 3 || len(c.ready) != 6 {
			t.Errorf("leased %d, ready %d after one ack", len(c.flying), len(c.ready))
		}
	})
}

// What expires in the buffer is never given to anybody.
func TestExpiredInTheBufferIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("old"))
		cons, _ := b.Consumer(t.Context(), "q", &ConsumerOptions{NoExtend: true})
		synctest.Wait()
		time.Sleep(fakeLease)
		c.put(msg("new"))
		ds, err := cons.Receive(t.Context(), 10)
		if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != "new" {
			t.Fatalf("got %d, %v", len(ds), err)
		}
		time.Sleep(fakeLease)
		wantIs(t, ds[0].Check(), ErrExpired)
		wantIs(t, ds[0].Settle(t.Context(), AckVerdict()), ErrNotHeld)
	})
}

// A backend that does not answer ends the lease on time, on this side alone.
func TestBlackHoleEndsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, _ := cons.Receive(t.Context(), 1)
		began := time.Now()
		c.set(func() {
			c.onSettle = func(ctx context.Context, _ []driver.Settlement) error { <-ctx.Done(); return ctx.Err() }
		})
		<-ds[0].Context().Done()
		if took := time.Since(began); took > fakeLease {
			t.Errorf("the lease ended after %v, want before %v", took, fakeLease)
		}
		wantIs(t, context.Cause(ds[0].Context()), ErrExpired)
	})
}

func TestReceiveErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		calls := 0
		c.onReceive = func(ctx context.Context) error {
			switch calls++; {
			case calls == 1:
				<-ctx.Done() // a call that hangs is given up
				return ctx.Err()
			case calls < 5:
				return ErrUnavailable
			}
			return nil
		}
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, err := cons.Receive(t.Context(), 1)
		if err != nil || len(ds) != 1 {
			t.Fatalf("got %d, %v", len(ds), err)
		}
		c.set(func() { c.onReceive = func(context.Context) error { return ErrNotFound } })
		gone, _ := b.Consumer(t.Context(), "gone", nil)
		_, err = gone.Receive(t.Context(), 1)
		wantIs(t, err, ErrNotFound)
		wantIs(t, b.Serve(t.Context(), "gone", func(context.Context, *Delivery) error { return nil }, nil), ErrNotFound)
	})
}

func TestSettlesAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		for range 50 {
			c.put(msg("x"))
		}
		cons, _ := b.Consumer(t.Context(), "q", nil)
		var ds []*Delivery
		for len(ds) < 50 {
			got, err := cons.Receive(t.Context(), 50)
			if err != nil {
				t.Fatal(err)
			}
			ds = append(ds, got...)
		}
		c.set(func() {
			c.onSettle = func(context.Context, []driver.Settlement) error { time.Sleep(time.Second); return nil }
		})
		var wg sync.WaitGroup
		for _, d := range ds {
			wg.Go(func() {
				if err := d.Ack(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if c.settles > 2 {
			t.Errorf("50 acks took %d calls, want 2", c.settles)
		}
	})
}

// A lost reply to an ack is reported as it is, and asking again says NotHeld.
func TestSettleLostReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, _ := cons.Receive(t.Context(), 1)
		lose := true
		c.onSettle = func(_ context.Context, ss []driver.Settlement) error {
			if !lose {
				return nil
			}
			lose = false
			delete(c.flying, ss[0].Ref.Seq)
			return ErrUnknown
		}
		wantIs(t, ds[0].Ack(t.Context()), ErrUnknown)
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
		wantIs(t, ds[0].Settle(t.Context(), Verdict{}), ErrInvalid)
	})
}

func TestServeVerdicts(t *testing.T) {
	results := []struct {
		err  error
		boom any
		want driver.Settlement
	}{
		{nil, nil, driver.Settlement{Verb: driver.Ack}},
		{errors.New("no"), nil, driver.Settlement{Verb: driver.Nack, Backoff: true, Reason: "no"}},
		{RetryAfter(time.Minute, errors.New("soon")), nil, driver.Settlement{Verb: driver.Nack, Delay: time.Minute, Reason: "soon"}},
		{fmt.Errorf("wrapped: %w", Reject(errors.New("bad"))), nil, driver.Settlement{Verb: driver.Reject, Reason: "wrapped: bad"}},
		{fmt.Errorf("wrapped: %w", ErrRelease), nil, driver.Settlement{Verb: driver.Release}},
		{nil, "ouch", driver.Settlement{Verb: driver.Nack, Backoff: true, Reason: "panic: ouch"}},
		{errors.New(strings.Repeat("é", 600)), nil, driver.Settlement{Verb: driver.Nack, Backoff: true, Reason: strings.Repeat("é", 512)}},
	}
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		for i := range results {
			c.put(msg(fmt.Sprint(i)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		i := 0
		go func() {
			done <- b.Serve(ctx, "q", func(ctx context.Context, d *Delivery) error {
				r := results[i]
				i++
				if r.boom != nil {
					panic(r.boom)
				}
				return r.err
			}, nil)
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(c.settled) != len(results) {
			t.Fatalf("settled %d of %d", len(c.settled), len(results))
		}
		for i, got := range c.settled {
			got.Ref = driver.Ref{}
			if got != results[i].want {
				t.Errorf("result %d: got %+v, want %+v", i, got, results[i].want)
			}
		}
	})
}

func TestServeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("quick"), msg("slow"), msg("buffered"), msg("buffered"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var running atomic.Int32
		go func() {
			done <- b.Serve(ctx, "q", func(ctx context.Context, d *Delivery) error {
				running.Add(1)
				if string(d.Message.Body) == "quick" {
					time.Sleep(2 * time.Second)
					return nil
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}, &ServeOptions{Concurrency: 2, DrainTimeout: 5 * time.Second})
		}()
		synctest.Wait()
		cancel()
		began := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("drained in %v, want the DrainTimeout", took)
		}
		want := fmt.Sprint([]driver.Verb{driver.Release, driver.Release, driver.Ack, driver.Release})
		if got := fmt.Sprint(c.verbs()); got != want || running.Load() != 2 {
			t.Errorf("settled %v, want %v; %d handlers ran", got, want, running.Load())
		}
	})
}

// Serve settles again while the outcome is unknown.
func TestServeInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		fails := 3
		c.onSettle = func(context.Context, []driver.Settlement) error {
			if fails--; fails >= 0 {
				return ErrUnknown
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- b.Serve(ctx, "q", func(context.Context, *Delivery) error { return nil }, nil)
		}()
		time.Sleep(5 * time.Second)
		cancel()
		if err := <-done; err != nil || fmt.Sprint(c.verbs()) != fmt.Sprint([]driver.Verb{driver.Ack}) {
			t.Errorf("%v, settled %v", err, c.verbs())
		}
	})
}

func TestBrokerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("given"), msg("buffered"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, _ := cons.Receive(t.Context(), 1)
		p := b.Publisher(nil)
		pd, _ := p.Send(t.Context(), Route{Key: "q"}, msg("x"))
		for range 2 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := pd.Receipt(t.Context()); err != nil {
			t.Errorf("Close did not flush: %v", err)
		}
		wantIs(t, context.Cause(ds[0].Context()), ErrClosed)
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
		_, err := b.Publish(t.Context(), Route{Key: "q"}, msg("x"))
		wantIs(t, err, ErrClosed)
		_, err = b.Consumer(t.Context(), "q", nil)
		wantIs(t, err, ErrClosed)
	})
}
