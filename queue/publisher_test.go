package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// gated is a fake whose publishes wait for the gate.
func gated() (c *fakeConn, gate chan struct{}) {
	c, gate = newFake(), make(chan struct{})
	c.onPublish = func(ctx context.Context, _ []driver.Publishing) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c, gate
}

func bodies(c *fakeConn) (all []string) {
	for _, p := range c.published {
		all = append(all, string(p.Message.Body))
	}
	return all
}

func TestPublisherWindow(t *testing.T) {
	for name, c := range map[string]struct {
		o     PublisherOptions
		size  int
		takes int
	}{
		"messages":                  {PublisherOptions{Window: 3}, 1, 3},
		"bytes":                     {PublisherOptions{WindowBytes: 250}, 100, 2},
		"bytes, exactly":            {PublisherOptions{WindowBytes: 300}, 100, 3},
		"longer than the window":    {PublisherOptions{WindowBytes: 10}, 100, 1},
		"empty bodies need no room": {PublisherOptions{Window: 5, WindowBytes: 1}, 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake, gate := gated()
				b := newBroker(t, fake)
				p := b.Publisher(&c.o)
				m := &Message{Body: make([]byte, c.size)}
				for i := range c.takes {
					if _, err := p.Send(t.Context(), Route{Key: "q"}, m); err != nil {
						t.Fatalf("Send %d: %v", i, err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := p.Send(ctx, Route{Key: "q"}, m)
				wantIs(t, err, context.DeadlineExceeded)
				close(gate) // makes room
				if _, err := p.Send(t.Context(), Route{Key: "q"}, m); err != nil {
					t.Error(err)
				}
				if err := p.Flush(t.Context()); err != nil || len(fake.published) != c.takes+1 {
					t.Errorf("%v; published %d, want %d", err, len(fake.published), c.takes+1)
				}
			})
		})
	}
}

// The context of a Send ends its wait for room, not its publish.
func TestSendsContextDoesNotEndThePublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, gate := gated()
		b := newBroker(t, c)
		p := b.Publisher(nil)
		ctx, cancel := context.WithCancel(t.Context())
		pending, err := p.Send(ctx, Route{Key: "q"}, msg("x"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		_, err = pending.Receipt(ctx)
		wantIs(t, err, context.Canceled)
		synctest.Wait()
		close(gate)
		r, err := pending.Receipt(t.Context())
		if err != nil || r.Queues != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		<-pending.Done()
		if _, err := pending.Receipt(ctx); err != nil {
			t.Errorf("a receipt that is there, for an ended context: %v", err)
		}
	})
}

func TestPublisherCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.onPublish = func(context.Context, []driver.Publishing) error { pass(time.Second); return nil }
		b := newBroker(t, c)
		p := b.Publisher(&PublisherOptions{MaxBatch: 2, Optional: true})
		var want []string
		for i := range 9 {
			want = append(want, fmt.Sprint(i))
			if _, err := p.Send(t.Context(), Route{Key: "nowhere"}, msg(want[i])); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := bodies(c); !slices.Equal(got, want) {
			t.Errorf("published %v, want %v", got, want)
		}
		if c.published[0].Mandatory {
			t.Error("an optional message was sent as mandatory")
		}
		_, err := p.Send(t.Context(), Route{Key: "q"}, msg("late"))
		wantIs(t, err, ErrClosed)
		b.Close()
		_, err = b.Publisher(nil).Send(t.Context(), Route{Key: "q"}, msg("late"))
		wantIs(t, err, ErrClosed)
	})
}

// Attempts that were certainly not carried out are made again, and nothing
// behind them overtakes them; one whose outcome cannot be known is reported
// as such, and does not stop those behind it.
func TestPublisherOrderOverFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		calls := 0
		c.onPublish = func(_ context.Context, ps []driver.Publishing) error {
			switch calls++; {
			case calls%3 != 0:
				return ErrUnavailable
			case string(ps[0].Message.Body) == "5":
				return ErrUnknown
			}
			return nil
		}
		b := newBroker(t, c)
		p := b.Publisher(&PublisherOptions{MaxBatch: 1})
		var pending []*Pending
		for i := range 10 {
			pd, err := p.Send(t.Context(), Route{Key: "q"}, msg(fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, pd)
		}
		wantIs(t, p.Flush(t.Context()), ErrUnknown)
		for i, pd := range pending {
			r, err := pd.Receipt(t.Context())
			if i == 5 {
				wantIs(t, err, ErrUnknown)
				wantIs(t, r.Err, ErrUnknown)
			} else if err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		if got := fmt.Sprint(bodies(c)); got != "[0 1 2 3 4 6 7 8 9]" {
			t.Errorf("published %v", got)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What is never sent fails as such when its time is over, at latest a little
// after the Timeout, however many are in front.
func TestPublisherTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := gated()
		b := newBroker(t, c)
		p := b.Publisher(&PublisherOptions{MaxBatch: 1, Timeout: 5 * time.Second})
		began := time.Now()
		first, _ := p.Send(t.Context(), Route{Key: "q"}, msg("hangs"))
		second, _ := p.Send(t.Context(), Route{Key: "q"}, msg("waits"))
		_, err := first.Receipt(t.Context())
		wantIs(t, err, ErrUnknown)
		_, err = second.Receipt(t.Context())
		wantIs(t, err, ErrUnavailable)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("decided after %v", took)
		}
		wantIs(t, p.Close(), ErrUnknown)
		_, err = b.Publisher(nil).Send(t.Context(), Route{Key: "q"}, &Message{Priority: 10})
		wantIs(t, err, ErrInvalid)
	})
}
