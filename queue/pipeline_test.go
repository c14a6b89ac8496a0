package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// pipe is a fake that takes batches before it has confirmed those before.
type pipe struct {
	*fakeConn
	begun   []string              // the first body of each batch
	outcome map[string]chan error // by that
}

func (p *pipe) BeginPublish(ctx context.Context, ps []driver.Publishing) (func() ([]driver.Receipt, error), error) {
	name := string(ps[0].Message.Body)
	p.begun = append(p.begun, name)
	if name == "refused" {
		return nil, driver.ErrQueueFull
	}
	return func() ([]driver.Receipt, error) {
		select {
		case err := <-p.outcome[name]:
			return make([]driver.Receipt, len(ps)), err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, nil
}

// Batches are begun in the order of the Sends while others are unconfirmed, each
// has its own outcome, and one that fails does not hold up those behind it.
func TestPublisherPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pipe{fakeConn: newFake(), outcome: map[string]chan error{}}
		names := []string{"0", "1", "refused", "3"}
		for _, n := range names {
			c.outcome[n] = make(chan error, 1)
		}
		b := New(c, &Config{Clock: lease.GoClock()})
		defer b.Close()
		p := b.Publisher(&PublisherOptions{MaxBatch: 1})
		var pending []*Pending
		for _, n := range names {
			pd, err := p.Send(t.Context(), Route{Key: "q"}, &Message{Body: []byte(n)})
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, pd)
		}
		synctest.Wait()
		if got := fmt.Sprint(c.begun); got != fmt.Sprint(names) {
			t.Errorf("begun %s before anything was confirmed, want %v", got, names)
		}
		c.outcome["3"] <- nil
		c.outcome["1"] <- ErrUnavailable
		c.outcome["0"] <- nil
		for i, want := range []error{nil, ErrUnavailable, ErrQueueFull, nil} {
			_, err := pending[i].Receipt(t.Context())
			if want == nil && err != nil {
				t.Errorf("message %d: %v", i, err)
			} else if want != nil {
				wantIs(t, err, want)
			}
		}
		wantIs(t, p.Close(), ErrUnavailable)
	})
}

// Close waits for what was begun, and no longer than its time.
func TestPublisherPipelineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pipe{fakeConn: newFake(), outcome: map[string]chan error{}}
		b := New(c, &Config{Clock: lease.GoClock()})
		defer b.Close()
		p := b.Publisher(nil)
		pd, err := p.Send(t.Context(), Route{Key: "q"}, &Message{Body: []byte("never")})
		if err != nil {
			t.Fatal(err)
		}
		wantIs(t, p.Close(), ErrUnknown)
		_, err = pd.Receipt(t.Context())
		wantIs(t, err, ErrUnknown)
	})
}
