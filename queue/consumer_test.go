package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// lateCtx ends after Err was called so often, without ever waking anybody: a
// receiver that was woken for a delivery finds its context ended.
type lateCtx struct {
	context.Context
	left int
}

func (c *lateCtx) Done() <-chan struct{} { return nil }

func (c *lateCtx) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A receiver that gives up just when it is woken wakes the next.
func TestReceiverThatGivesUpWakesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		cons, err := b.Consumer(t.Context(), "q", nil)
		if err != nil {
			t.Fatal(err)
		}
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := cons.Receive(&lateCtx{context.Background(), 1}, 1)
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			_, err := cons.Receive(ctx, 1)
			second <- err
		}()
		synctest.Wait()
		c.put(msg("x"))
		if err := <-first; err == nil {
			t.Error("the one that gave up has no error")
		}
		if err := <-second; err != nil {
			t.Errorf("the other receiver: %v", err)
		}
	})
}

// Close is bounded while the backend is away, and says that it could not
// hand back; what it held has ended here.
func TestConsumerCloseWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		const many = 2*settleBatch + 1
		for range many {
			c.put(msg("x"))
		}
		cons, err := b.Consumer(t.Context(), "q", &ConsumerOptions{Prefetch: many})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		buffer := cons.buffer
		c.set(func() {
			c.onSettle = func(ctx context.Context, _ []driver.Settlement) error { <-ctx.Done(); return ctx.Err() }
		})
		began := time.Now()
		wantIs(t, cons.Close(), ErrUnknown)
		if took := time.Since(began); took != handBackTimeout {
			t.Errorf("Close took %v", took)
		}
		for _, d := range buffer {
			wantIs(t, d.Check(), ErrReleased)
		}
		if len(buffer) != many {
			t.Errorf("%d were buffered, want %d", len(buffer), many)
		}
	})
}

// What cannot be handed back because it is lost is no error, and all the
// rest is handed back, in batches.
func TestConsumerHandsBackInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		b := newBroker(t, c)
		const many = 2*settleBatch + 1
		for range many {
			c.put(msg("x"))
		}
		cons, err := b.Consumer(t.Context(), "q", &ConsumerOptions{Prefetch: many})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.mu.Lock()
		delete(c.flying, cons.buffer[7].Seq())
		c.mu.Unlock()
		if err := cons.Close(); err != nil {
			t.Error(err)
		}
		if len(c.settled) != many-1 || c.settles != 3 || c.detached != 1 {
			t.Errorf("handed back %d in %d calls, want %d in 3; detached %d", len(c.settled), c.settles, many-1, c.detached)
		}
	})
}

// While there is something in the buffer, single deliveries that are settled
// are not made up for one by one; when it is empty they are.
func TestConsumerFetchesInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		calls := 0
		c.onReceive = func(context.Context) error { calls++; return nil }
		b := newBroker(t, c)
		var ms []*Message
		for range 100 {
			ms = append(ms, msg("x"))
		}
		c.put(ms...)
		cons, err := b.Consumer(t.Context(), "q", &ConsumerOptions{Prefetch: 40})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if calls != 1 {
			t.Fatalf("%d calls fill the buffer, want 1", calls)
		}
		held, err := cons.Receive(t.Context(), 11)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 2} {
			if err := held[i].Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if calls != want {
				t.Errorf("%d calls after %d acks, want %d", calls, i+1, want)
			}
		}
		// All are given: the next ack is made up for at once.
		held, err = cons.Receive(t.Context(), 40)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := calls
		if err := held[0].Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if calls == before {
			t.Error("with an empty buffer nothing was fetched")
		}
	})
}
