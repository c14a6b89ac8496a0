package engine

import (
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/store"
)

// maxRoundBytes is where a round stops taking commands. Past half a memtable
// the store would have to flush for it.
const maxRoundBytes = 4 << 20

// maxRoundWork is after how long a round takes no more commands: some cost much
// and write little, and nobody's result leaves before the round is over. The
// last one can go on past it, by what one command may cost. Time is the measure
// because it is what the callers lose; the machine does not see it.
const maxRoundWork = 5 * time.Millisecond

// round is a set of decisions on its way to the disk, with the calls whose
// results may leave when it is there.
type round struct {
	pending *store.Pending // nil: nothing has changed
	calls   []*call
	err     error // of Apply
	told    []finisher
}

var rounds = sync.Pool{New: func() any { return new(round) }}

func (r *round) free() {
	r.pending, r.calls, r.err, r.told = nil, r.calls[:0], nil, r.told[:0]
	rounds.Put(r)
}

// decideRound lets the machine decide what has queued up, and applies it.
func (c *core) decideRound() *round {
	r := rounds.Get().(*round) //nolint:forcetypeassert // the pool has nothing else
	now := c.now()
	b := c.store.NewBatch()
	room := c.store.Room()
	c.queues.SetRoom(room)
	c.locks.Tick(now, b)
	c.queues.Tick(now, b, c.store)
	c.commits.Tick(now, b)
	until := c.clock.Now().Add(maxRoundWork) // from here on: however much was due, commands go on
	if k := c.unfinished; k != nil {
		c.unfinished = nil
		c.passOn(now, b, r, k)
	}
	for n := 0; c.unfinished == nil && c.next < len(c.backlog); n++ {
		if n > 0 && (b.Bytes()+c.locks.Unwritten()+c.queues.Unwritten() >= maxRoundBytes || c.clock.Now() > until) {
			break
		}
		k := c.backlog[c.next]
		c.backlog[c.next] = nil
		c.next++
		if k.take() {
			c.pass(now, b, r, k, room)
		}
	}
	c.queues.Dispatch(now, b, c.store)
	c.locks.Write(now, b)
	c.finish(r, &c.locks.Finished)
	c.finish(r, &c.queues.Finished)
	c.report()
	if b.Empty() {
		b.Discard()
		return r
	}
	if r.pending, r.err = c.store.Apply(b); r.err != nil {
		c.fail(r.err)
	}
	return r
}

// pass has one command decided.
func (c *core) pass(now machine.Time, b *store.Batch, r *round, k *call, room error) {
	if room != nil && c.grows(k.cmd) {
		k.err = room
		r.calls = append(r.calls, k)
		return
	}
	switch k.cmd.(type) {
	case *machine.Await, *machine.Receive, *machine.ReadStream, *machine.NextEvents:
		c.wait(k) // until finish
		c.passWaiting(now, b, k)
	default:
		c.passOn(now, b, r, k)
	}
}

// passOn has a command decided, or what is left of it. One that is too much
// for a round is the first of the next.
func (c *core) passOn(now machine.Time, b *store.Batch, r *round, k *call) {
	c.passLock(now, b, k.cmd)
	c.passCommit(now, b, k.cmd)
	if !c.passQueue(now, b, k.cmd) {
		c.unfinished = k
		return
	}
	r.calls = append(r.calls, k)
}

// passWaiting passes a command that finishes when the machine says so.
func (c *core) passWaiting(now machine.Time, b *store.Batch, k *call) {
	switch cmd := k.cmd.(type) {
	case *machine.Await:
		cmd.Owner = k
		c.locks.Await(now, b, cmd)
	case *machine.Receive:
		cmd.Owner = k
		c.queues.Receive(now, cmd)
	case *machine.ReadStream:
		cmd.Owner = k
		c.queues.ReadStream(cmd)
	case *machine.NextEvents:
		cmd.Owner = k
		c.locks.Next(cmd)
	}
}

func (c *core) passLock(now machine.Time, b *store.Batch, cmd machine.Command) {
	switch cmd := cmd.(type) {
	case *machine.Acquire:
		c.locks.Acquire(now, b, cmd)
	case *machine.Leave:
		c.locks.Leave(now, b, cmd)
	case *machine.CancelLock:
		c.locks.Cancel(now, b, cmd)
	case *machine.RenewLocks:
		c.locks.Renew(now, b, cmd)
	case *machine.ReleaseLocks:
		c.locks.Release(now, b, cmd)
	case *machine.RevokeLock:
		c.locks.Revoke(now, b, cmd)
	case *machine.SetLockValue:
		c.locks.SetValue(now, b, cmd)
	case *machine.ListLocks:
		c.locks.List(now, cmd)
	case *machine.WatchLocks:
		c.locks.Watch(cmd)
	case *machine.LeaveEvents:
		c.locks.LeaveEvents(cmd)
	case *machine.Unwatch:
		c.locks.Unwatch(cmd)
	}
}

// passQueue reports false if the command is to be passed again.
func (c *core) passQueue(now machine.Time, b *store.Batch, cmd machine.Command) bool {
	switch cmd := cmd.(type) {
	case *machine.Declare:
		c.queues.Declare(b, cmd)
	case *machine.DeleteTopology:
		c.queues.DeleteTopology(b, cmd)
	case *machine.ReadTopology:
		c.queues.ReadTopology(cmd)
	case *machine.Publish:
		return c.queues.Publish(now, b, c.store, cmd)
	case *machine.GiveUp:
		c.queues.GiveUp(cmd)
	case *machine.Settle:
		return c.queues.Settle(now, b, c.store, cmd)
	case *machine.Detach:
		c.queues.Detach(now, b, cmd)
	case *machine.CloseConn:
		c.queues.CloseConn(now, cmd)
	case *machine.CancelScheduled:
		c.queues.CancelScheduled(b, c.store, cmd)
	case *machine.ReadStats:
		c.queues.Stats(now, c.store, cmd)
	case *machine.PeekMessages:
		c.queues.Peek(now, c.store, cmd)
	case *machine.Purge:
		c.queues.Purge(b, cmd)
	case *machine.Redrive:
		c.queues.Redrive(now, b, c.store, cmd)
	default:
		c.passStream(b, cmd)
		c.passSchedule(now, b, cmd)
	}
	return true
}

func (c *core) passStream(b *store.Batch, cmd machine.Command) {
	switch cmd := cmd.(type) {
	case *machine.LeaveStream:
		c.queues.LeaveStream(cmd)
	case *machine.SaveOffset:
		c.queues.SaveOffset(b, cmd)
	case *machine.DeleteOffset:
		c.queues.DeleteOffset(b, cmd)
	case *machine.ReadOffsets:
		c.queues.ReadOffsets(cmd)
	}
}

// grows reports whether a command makes the store larger, so that it is
// refused while the disk is full.
func (c *core) grows(cmd machine.Command) bool {
	switch cmd := cmd.(type) {
	case *machine.Acquire:
		return !c.locks.Knows(cmd.Request.Name, cmd.Request.Holder)
	case *machine.Publish, *machine.Redrive, *machine.PutSchedule:
		return true
	case *machine.Declare:
		return !cmd.DryRun
	}
	return false
}

// finish moves the calls of commands that waited to the round.
func (c *core) finish(r *round, from *machine.Finished) {
	for i, cmd := range *from {
		if k := owner(cmd); k != nil {
			k.unlink()
			r.calls = append(r.calls, k)
		}
		(*from)[i] = nil
	}
	*from = (*from)[:0]
}

// report logs what the machine could not tell a caller.
func (c *core) report() {
	for _, err := range c.queues.Faults() {
		c.logger.Error("a queue or a schedule could not do what was due", "error", err)
	}
}
