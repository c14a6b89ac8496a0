package engine

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

var _ lockdriver.Starter = (*lockConn)(nil)

// startedAcquire is an Acquire that nobody waits for.
type startedAcquire struct {
	cmd machine.Acquire
	to  lockdriver.Acquirer
}

// StartAcquire implements lockdriver.Starter.
func (c *lockConn) StartAcquire(r *lockdriver.Request, to lockdriver.Acquirer) {
	k := &startedAcquire{to: to}
	k.cmd.Request, k.cmd.Received = r, c.core.clock.Now()
	c.core.start(c.gone, &k.cmd, k)
}

func (k *startedAcquire) finished(err error) {
	if err != nil {
		k.to.Acquired(nil, nil, err)
		return
	}
	k.to.Acquired(k.cmd.Grant, k.cmd.Ticket, k.cmd.Err)
}

// startedRelease is a Release that nobody waits for.
type startedRelease struct {
	cmd machine.ReleaseLocks
	to  lockdriver.Releaser
}

// StartRelease implements lockdriver.Starter.
func (c *lockConn) StartRelease(refs []lockdriver.Ref, to lockdriver.Releaser) {
	k := &startedRelease{to: to}
	k.cmd.Refs = refs
	c.core.start(c.gone, &k.cmd, k)
}

func (k *startedRelease) finished(err error) {
	if err != nil {
		k.to.Released(nil, err)
		return
	}
	k.to.Released(k.cmd.Outcomes, nil)
}
