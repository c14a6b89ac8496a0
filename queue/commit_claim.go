package queue

import (
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// committing is a commit under way, as the deliveries and locks in it see it.
type committing struct {
	id       string
	settle   []Settling
	claimed  []bool // of settle: its state is ours
	resolved []func()
	locks    []func(released, repeated bool)
}

// claim makes the deliveries those of this commit: nobody else can settle
// them meanwhile. One that is not held any more is an error, unless the commit
// has an ID: it may be a repeat, of which the backend knows.
func (c *committing) claim() error {
	c.claimed = make([]bool, len(c.settle))
	for i := range c.settle {
		d := c.settle[i].Delivery
		c.claimed[i] = d.state.CompareAndSwap(deliveryOpen, deliverySettling)
		var err error
		switch {
		case !c.claimed[i] && d.state.Load() == deliverySettling:
			err = fmt.Errorf("%w: another call is settling it", ErrConflict)
		case c.id == "" && (!c.claimed[i] || d.held.Check() != nil):
			err = d.notHeld()
		}
		if err != nil {
			c.unclaim()
			return &CommitError{Part: driver.PartSettle, Index: i, Err: err}
		}
		c.resolved = append(c.resolved, d.held.Doubt())
	}
	return nil
}

func (c *committing) unclaim() {
	for i, ours := range c.claimed {
		if ours {
			c.settle[i].Delivery.state.CompareAndSwap(deliverySettling, deliveryOpen)
		}
	}
	for _, resolved := range c.resolved {
		resolved()
	}
}

// done ends what the commit has ended. If nothing is known, all stays as it
// is: leases that are over by it are found to be at their next renewal.
func (c *committing) done(r *TxnResult, err error) {
	if err == nil {
		for i := range c.settle {
			c.settle[i].Delivery.end(ErrReleased)
		}
	}
	c.lost(err)
	c.unclaim()
	for _, done := range c.locks {
		done(err == nil, err == nil && r.Repeated)
	}
}

// lost ends the delivery of which the backend said that it is not held.
func (c *committing) lost(err error) {
	var failed *CommitError
	if errors.As(err, &failed) && failed.Part == driver.PartSettle && failed.Index < len(c.settle) && errors.Is(err, ErrNotHeld) {
		c.settle[failed.Index].Delivery.end(ErrLost)
	}
}
