package engine

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/lease"
)

// write is the writer: it decides rounds until the engine is closed or fails.
func (c *core) write() {
	defer close(c.rounds)
	timer := c.clock.NewTimer()
	defer timer.Stop()
	var armed lease.Instant // what the timer is set to, or earlier than needed; 0: not set
	for {
		c.collect()
		refusal := c.refused()
		idle := c.unfinished == nil && c.next == len(c.backlog)
		stalled := c.store.Stalled()
		if c.err() != nil || refusal != nil && (idle || stalled != nil) {
			c.dismiss(refusal)
			return
		}
		if stalled != nil {
			c.turnAway(stalled)
			c.pause()
			continue
		}
		if !idle || c.due() {
			r := c.decideRound()
			several := len(r.calls) > 1
			c.rounds <- r
			if several && !c.memory {
				c.yield()
			}
			continue
		}
		// One that is set too early is left, to be set anew when it fires: most
		// locks are released long before they expire, and setting it is a
		// system call.
		if at, ok := c.nextWake(); ok && (armed == 0 || at < armed) {
			timer.Reset(at)
			armed = at
		}
		select {
		case <-c.wake:
		case <-timer.C():
			armed = 0
		case <-c.store.Failed():
			c.fail(c.store.Err())
		}
	}
}

// longYield is how long callers may take to come back. If it was longer, others
// use the processors, in whose line the writer would wait for every round: then
// it does not yield for yieldRest times as long.
const (
	longYield = time.Millisecond
	yieldRest = 20
)

// yield lets callers run before the next round is decided. Those of the round
// before have just been told, and the disk is busy with this one: what they
// want next shares the next.
func (c *core) yield() {
	began := c.clock.Now()
	if began < c.crowded {
		return
	}
	runtime.Gosched()
	now := c.clock.Now()
	if took := now.Sub(began); took > longYield {
		c.crowded = now.Add(yieldRest * took)
	}
}

// stallPause is how often a store that cannot write is looked at again.
const stallPause = 50 * time.Millisecond

// turnAway refuses the calls that have queued up while the store cannot write:
// a round could hang in it, with everybody waiting and nobody told. Time
// stands still for the machine meanwhile: no lease is given to another. Calls
// for which nobody waits are kept.
func (c *core) turnAway(why error) {
	c.mu.Lock()
	queued := slices.Concat(c.backlog[c.next:], c.incoming)
	c.incoming = nil
	c.mu.Unlock()
	c.backlog, c.next = nil, 0
	for _, k := range queued {
		if k.state.Load() == posted {
			c.backlog = append(c.backlog, k)
		} else {
			k.refuse(why)
		}
	}
}

// pause waits for a call, or for a moment.
func (c *core) pause() {
	moment := time.NewTimer(stallPause)
	defer moment.Stop()
	select {
	case <-c.wake:
	case <-moment.C:
	case <-c.store.Failed():
		c.fail(c.store.Err())
	}
}

// collect swaps the queued calls for the empty backlog.
func (c *core) collect() {
	if c.next < len(c.backlog) {
		return
	}
	c.mu.Lock()
	c.backlog, c.incoming = c.incoming, c.backlog[:0]
	c.mu.Unlock()
	c.next = 0
}

// due reports whether the machine has something to do without a command.
func (c *core) due() bool {
	at, ok := c.nextWake()
	return ok && at <= c.clock.Now()
}

func (c *core) nextWake() (lease.Instant, bool) {
	at, ok := c.locks.NextWake()
	if q, some := c.queues.NextWake(c.now()); some && (!ok || q < at) {
		at, ok = q, true
	}
	return at, ok
}

// dismiss ends the calls that are not decided, and those that wait.
func (c *core) dismiss(why error) {
	if why == nil {
		why = c.err()
	}
	if k := c.unfinished; k != nil { // after a failure only
		c.unfinished = nil
		k.end(notConfirmed(why))
	}
	for {
		for ; c.next < len(c.backlog); c.next++ {
			c.backlog[c.next].refuse(why)
			c.backlog[c.next] = nil
		}
		if c.collect(); len(c.backlog) == 0 {
			break
		}
	}
	for k := c.waiting.next; k != &c.waiting; k = c.waiting.next {
		k.unlink()
		k.end(why)
	}
}

// wait notes that a call waits in the machine.
func (c *core) wait(k *call) {
	k.prev, k.next = c.waiting.prev, &c.waiting
	k.prev.next, k.next.prev = k, k
}

func (k *call) unlink() {
	k.prev.next, k.next.prev = k.next, k.prev
	k.prev, k.next = nil, nil
}

// sync is the syncer: it completes the calls of each round once its changes,
// and those of all rounds before, are durable.
func (c *core) sync() {
	defer close(c.stopped)
	for r := range c.rounds {
		if r.pending != nil && r.err == nil {
			r.err = r.pending.Wait()
		}
		if r.err == nil {
			r.err = c.store.Err()
		}
		if r.err != nil {
			c.fail(r.err)
		}
		var outcome error
		if reason := c.err(); reason != nil {
			outcome = notConfirmed(reason)
		}
		for i, k := range r.calls {
			if to := k.complete(outcome); to != nil {
				r.told = append(r.told, to)
			}
			r.calls[i] = nil
		}
		for i, to := range r.told {
			to.flush()
			r.told[i] = nil
		}
		r.free()
	}
}

// notConfirmed is the outcome of a command that was decided and is not known
// to be durable: the next open may find it. The reason is not wrapped: it says
// that nothing was done.
func notConfirmed(reason error) error {
	return fmt.Errorf("%w: not confirmed by the store: %v", lease.ErrUnknown, reason) //nolint:errorlint // see above
}

// owner returns the call of a command that the machine has finished later
// than in the round that it was passed in; nil if it was not that kind.
func owner(cmd machine.Command) *call {
	switch cmd := cmd.(type) {
	case *machine.Await:
		return cmd.Owner.(*call) //nolint:forcetypeassert // pass has put it there
	case *machine.Receive:
		return cmd.Owner.(*call) //nolint:forcetypeassert // likewise
	case *machine.ReadStream:
		return cmd.Owner.(*call) //nolint:forcetypeassert // likewise
	case *machine.NextEvents:
		return cmd.Owner.(*call) //nolint:forcetypeassert // likewise
	}
	return nil
}
