package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Bounds of the pauses between attempts against a backend that is not there.
const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// pauses is a sequence of jittered pauses that double: each is between half
// and the whole of its step. The zero value starts at minPause.
type pauses struct{ step time.Duration }

func (p *pauses) next() time.Duration {
	p.step = min(max(2*p.step, minPause), maxPause)
	return p.step/2 + rand.N(p.step/2+1)
}

// sleep waits for d, and reports false if stop or ctx ended first.
func sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// retry calls attempt until it says anything but ErrUnavailable, which means
// that it was certainly not carried out; or until ctx ends, the broker
// closes, or within has passed. It then returns the last error.
func (b *Broker) retry(ctx context.Context, within time.Duration, attempt func() error) error {
	began := time.Now()
	var p pauses
	for {
		err := attempt()
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		d := p.next()
		if time.Since(began)+d > within {
			return err
		}
		if !sleep(ctx, b.closing, d) {
			if cause := context.Cause(ctx); cause != nil {
				return fmt.Errorf("%w (gave up: %w)", err, cause)
			}
			return err
		}
	}
}
