package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// serve runs Serve until stop is called, which returns what Serve returned.
func serve(t *testing.T, b *Broker, o *ServeOptions, h Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, "q", h, o) }()
	return func() error {
		cancel()
		return <-done
	}
}

func keyed(k, b string) *Message { return &Message{OrderKey: k, Body: []byte(b)} }

// Many workers, and failures among them, keep each key's order; the keys do
// not wait for each other.
func TestServeKeepsKeysInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.back = true
		b := newBroker(t, c)
		const keys, each = 8, 20
		for i := range each {
			for k := range keys {
				c.put(keyed(fmt.Sprint("k", k), fmt.Sprint(i)))
			}
		}
		var mu sync.Mutex
		busy, got := map[string]bool{}, map[string]int{}
		most := 0
		stop := serve(t, b, &ServeOptions{Concurrency: keys}, func(_ context.Context, d *Delivery) error {
			key := d.Message.OrderKey
			mu.Lock()
			if want := fmt.Sprint(got[key]); busy[key] || string(d.Message.Body) != want {
				t.Errorf("key %s: got %s while busy is %v, want %s", key, d.Message.Body, busy[key], want)
			}
			busy[key] = true
			running := 0
			for _, is := range busy {
				if is {
					running++
				}
			}
			most = max(most, running)
			mu.Unlock()
			pass(time.Second)
			mu.Lock()
			defer mu.Unlock()
			busy[key] = false
			if key == "k3" && d.Attempt < 3 {
				return errors.New("not yet")
			}
			got[key]++
			return nil
		})
		pass(each*time.Second + time.Millisecond)
		mu.Lock()
		for k := range keys {
			key := fmt.Sprint("k", k)
			if want := map[bool]int{true: each / 3, false: each}[key == "k3"]; got[key] != want {
				t.Errorf("after %d s key %s has %d handled, want %d", each, key, got[key], want)
			}
		}
		if most != keys {
			t.Errorf("at most %d keys ran at once, want %d", most, keys)
		}
		mu.Unlock()
		pass(2 * each * time.Second)
		if err := stop(); err != nil || got["k3"] != each {
			t.Errorf("%v; the failing key has %d handled, want %d", err, got["k3"], each)
		}
	})
}

// A handler whose delivery is lost is told, with the reason; whatever it
// returns then is not sent.
func TestServeLostLease(t *testing.T) {
	for name, c := range map[string]struct {
		lose  func(*fakeConn)
		cause error
	}{
		"the backend says so": {(*fakeConn).lose, ErrLost},
		"nobody answers": {func(c *fakeConn) {
			c.set(func() {
				c.onSettle = func(ctx context.Context, _ []driver.Settlement) error { <-ctx.Done(); return ctx.Err() }
			})
		}, ErrExpired},
	} {
		for _, returns := range []error{nil, errors.New("failed"), Reject(nil)} {
			t.Run(fmt.Sprint(name, ", returns ", returns), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := newFake()
					b := newBroker(t, fake)
					fake.put(msg("x"))
					began := time.Now()
					var cause error
					var took time.Duration
					stop := serve(t, b, nil, func(ctx context.Context, d *Delivery) error {
						c.lose(fake)
						<-ctx.Done()
						cause, took = context.Cause(ctx), time.Since(began)
						wantIs(t, d.Check(), c.cause)
						fake.set(func() { fake.onSettle = nil })
						return returns
					})
					pass(2 * fakeLease)
					if err := stop(); err != nil {
						t.Error(err)
					}
					wantIs(t, cause, c.cause)
					if took > fakeLease {
						t.Errorf("the handler was told after %v, the lease is %v", took, fakeLease)
					}
					if len(fake.settled) != 0 || fake.settles != 0 {
						t.Errorf("a late settlement was sent: %v", fake.settled)
					}
				})
			})
		}
	}
}

// An ack that an overtaken holder sends all the same is refused by the
// backend, and it is told.
func TestLateSettleIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, err := cons.Receive(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		c.lose() // this side does not know yet
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
		wantIs(t, context.Cause(ds[0].Context()), ErrLost)
		wantIs(t, ds[0].Ack(t.Context()), ErrNotHeld)
	})
}

// Serve waits for a handler that ignores its context, whose cause says that
// it is the drain, and settles for those that finish in time.
func TestServeDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		var cause error
		stop := serve(t, b, &ServeOptions{DrainTimeout: 3 * time.Second}, func(ctx context.Context, d *Delivery) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			pass(time.Minute) // its delivery is extended meanwhile
			return d.Check()
		})
		synctest.Wait()
		began := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 63*time.Second {
			t.Errorf("Serve returned after %v, want when its handler had", took)
		}
		wantIs(t, cause, ErrClosed)
		if !strings.Contains(fmt.Sprint(cause), "drain") {
			t.Errorf("the cause is %v", cause)
		}
		if got := fmt.Sprint(c.verbs()); got != fmt.Sprint([]driver.Verb{driver.Ack}) || c.detached != 1 {
			t.Errorf("settled %v, detached %d times", got, c.detached)
		}
	})
}

// A handler may settle its delivery itself.
func TestServeHandlerSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"), msg("y"))
		stop := serve(t, b, nil, func(ctx context.Context, d *Delivery) error {
			if err := d.Settle(ctx, RejectVerdict("mine")); err != nil {
				t.Error(err)
			}
			wantIs(t, context.Cause(ctx), ErrReleased)
			return errors.New("does not count")
		})
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(c.verbs()); got != fmt.Sprint([]driver.Verb{driver.Reject, driver.Reject}) {
			t.Errorf("settled %v", got)
		}
	})
}

// Closing the broker ends Serve and tells its handlers.
func TestCloseEndsServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		done := make(chan error, 1)
		go func() {
			done <- b.Serve(t.Context(), "q", func(ctx context.Context, _ *Delivery) error {
				<-ctx.Done()
				wantIs(t, context.Cause(ctx), ErrClosed)
				return nil
			}, nil)
		}()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wantIs(t, <-done, ErrClosed)
		wantIs(t, b.Serve(t.Context(), "q", func(context.Context, *Delivery) error { return nil }, nil), ErrClosed)
	})
}

func TestServeRefusesItsOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, newFake())
		h := func(context.Context, *Delivery) error { return nil }
		wantIs(t, b.Serve(t.Context(), "q", nil, nil), ErrInvalid)
		wantIs(t, b.Serve(t.Context(), "", h, nil), ErrInvalid)
		for _, o := range []ServeOptions{
			{Concurrency: MaxConcurrency + 1}, {Prefetch: MaxPrefetch + 1}, {Lease: 1}, {Lease: 2 * time.Hour}, {Consumer: "a\x00"},
		} {
			wantIs(t, b.Serve(t.Context(), "q", h, &o), ErrInvalid)
		}
	})
}

// plain is a fake whose Caps lack the delayed nack.
type plain struct{ *fakeConn }

func (p plain) Caps() driver.Caps {
	caps := p.fakeConn.Caps()
	caps.DelayedNack = false
	return caps
}

func TestServeWithoutDelayedNack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := New(plain{c}, &Config{Clock: lease.GoClock()})
		defer b.Close()
		c.put(msg("a"), msg("b"))
		stop := serve(t, b, nil, func(_ context.Context, d *Delivery) error {
			if string(d.Message.Body) == "a" {
				return errors.New("no")
			}
			return RetryAfter(time.Hour, errors.New("later"))
		})
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		for i, why := range []string{"no", "later"} {
			got := c.settled[i]
			got.Ref = driver.Ref{}
			if want := (driver.Settlement{Verb: driver.Nack, Reason: why}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	})
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Verdict
		text string
	}{
		{RetryAfter(-time.Second, nil), Verdict{verb: driver.Nack, reason: "retry after 0s"}, "nack"},
		{RetryAfter(driver.MaxDelay+1, errors.New("e")), Verdict{verb: driver.Nack, delay: driver.MaxDelay, reason: "e"}, "nack"},
		{Reject(nil), Verdict{verb: driver.Reject, reason: "rejected"}, "reject"},
		{RetryAfter(time.Second, Reject(errors.New("e"))), Verdict{verb: driver.Reject, reason: "e"}, "reject"},
		{fmt.Errorf("%w: \xff", ErrRelease), Verdict{verb: driver.Release}, "release"},
		{errors.New("\xff"), Verdict{verb: driver.Nack, backoff: true, reason: "\uFFFD"}, "nack"},
		{nil, Verdict{verb: driver.Ack}, "ack"},
	} {
		if got := verdictOf(c.err); got != c.want || got.String() != c.text {
			t.Errorf("%v: got %+v, want %+v", c.err, got, c.want)
		}
	}
	cause := errors.New("cause")
	wantIs(t, RetryAfter(0, cause), cause)
	wantIs(t, Reject(cause), cause)
}

func TestExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", &ConsumerOptions{NoExtend: true})
		ds, err := cons.Receive(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		d := ds[0]
		var asked []time.Duration
		c.set(func() {
			c.onSettle = func(_ context.Context, ss []driver.Settlement) error {
				if ss[0].Verb == driver.Extend {
					asked = append(asked, ss[0].TTL)
				}
				return nil
			}
		})
		pass(fakeLease / 2)
		if err := d.Extend(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		pass(50 * time.Second)
		if err := d.Check(); err != nil {
			t.Errorf("50 s after it was extended for a minute: %v", err)
		}
		if err := d.Extend(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(asked) != "[1m0s 1m0s]" {
			t.Errorf("asked for %v, want a minute, twice", asked)
		}
		wantIs(t, d.Extend(t.Context(), time.Millisecond), ErrInvalid)
		wantIs(t, d.Extend(t.Context(), -1), ErrInvalid)
		c.set(func() { c.onSettle = func(context.Context, []driver.Settlement) error { return ErrUnavailable } })
		wantIs(t, d.Extend(t.Context(), 0), ErrUnavailable)
		if err := d.Check(); err != nil {
			t.Errorf("a failed Extend ended it: %v", err)
		}
		c.set(func() { c.onSettle = nil })
		c.lose()
		wantIs(t, d.Extend(t.Context(), 0), ErrNotHeld)
		wantIs(t, d.Extend(t.Context(), 0), ErrNotHeld)
	})
}

func TestExtendUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.noExtend = true
		b := newBroker(t, c)
		c.put(msg("x"))
		cons, _ := b.Consumer(t.Context(), "q", nil)
		ds, err := cons.Receive(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		wantIs(t, ds[0].Extend(t.Context(), time.Minute), ErrUnsupported)
		pass(fakeLease)
		wantIs(t, ds[0].Check(), ErrExpired) // nobody tried to extend it
	})
}
