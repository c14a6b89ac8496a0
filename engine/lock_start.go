package engine

import (
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/lease"
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

func (k *startedAcquire) flush() { k.to.Flush() }

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

func (k *startedRelease) flush() { k.to.Flush() }

// startedWait is a Wait that nobody waits for.
type startedWait struct {
	cmd  machine.Await
	call call
	conn *lockConn
	to   lockdriver.Acquirer
}

// startedWaits are those of a connection, which end with it.
type startedWaits struct {
	mu  sync.Mutex
	all map[*startedWait]struct{}
}

func (s *startedWaits) add(k *startedWait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*startedWait]struct{})
	}
	s.all[k] = struct{}{}
}

func (s *startedWaits) remove(k *startedWait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, k)
}

// StartWait implements lockdriver.Starter.
func (c *lockConn) StartWait(r *lockdriver.Request, to lockdriver.Acquirer) lockdriver.StartedWait {
	k := &startedWait{conn: c, to: to}
	k.cmd.Request, k.cmd.Received = r, c.core.clock.Now()
	k.call.cmd, k.call.to, k.call.kept = &k.cmd, k, true
	c.waits.add(k) // first: a Close that comes now finds it, or is found
	c.core.begin(c.gone, &k.call)
	return k
}

func (k *startedWait) finished(err error) {
	k.conn.waits.remove(k)
	if err != nil {
		k.to.Acquired(nil, nil, err)
		return
	}
	k.to.Acquired(k.cmd.Grant, nil, k.cmd.Err)
}

func (k *startedWait) flush() { k.to.Flush() }

// Stop implements lockdriver.StartedWait.
func (k *startedWait) Stop() bool {
	left, known := k.call.giveUp()
	if !left {
		return false
	}
	k.conn.waits.remove(k)
	if !known {
		k.conn.core.post(&machine.Leave{Await: &k.cmd})
	}
	return true
}

// close ends the waits of a connection that is closed.
func (s *startedWaits) close() {
	s.mu.Lock()
	all := s.all
	s.all = nil
	s.mu.Unlock()
	for k := range all {
		if k.Stop() {
			k.to.Acquired(nil, nil, lease.ErrClosed)
			k.to.Flush()
		}
	}
}
