package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/lease"
)

// call is one command on its way through the engine and back. Calls are
// reused; who owns one follows from its state:
//
//	queued    -> taken      the writer decides it
//	queued    -> withdrawn  its caller went away in time; the writer drops it
//	taken     -> done       decided and durable: the caller reads the result
//	taken     -> abandoned  its caller went away; the engine drops it
//	posted                  nobody waits for it
//
// One that has a finisher is withdrawn or abandoned by giveUp only.
type call struct {
	cmd   machine.Command
	err   error         // of the engine; a command has its own error
	ready chan struct{} // buffered: one token when state becomes done
	state atomic.Uint32

	// orphaned, if not nil, is called, by the syncer, when the command has
	// been carried out and its caller was gone.
	orphaned func(machine.Command)

	// to, if not nil, is told instead of a caller that waits.
	to   finisher
	kept bool // by who may give it up: it is not used again

	prev, next *call // in core.waiting
}

// finisher is told, by the syncer, that its command is durable, or as an error
// what do would return; and flushed, when all of the round have been told. It
// must not block.
type finisher interface {
	finished(err error)
	flush()
}

const (
	queued uint32 = iota
	taken
	withdrawn
	done
	abandoned
	posted
)

var calls = sync.Pool{New: func() any { return &call{ready: make(chan struct{}, 1)} }}

func newCall(cmd machine.Command, state uint32) *call {
	k := calls.Get().(*call) //nolint:forcetypeassert // the pool has nothing else
	k.cmd = cmd
	k.state.Store(state)
	return k
}

func (k *call) free() {
	if k.kept {
		return
	}
	k.cmd, k.err, k.orphaned, k.to = nil, nil, nil, nil
	calls.Put(k)
}

// take makes the call the writer's, unless it was withdrawn.
func (k *call) take() bool {
	if k.state.CompareAndSwap(queued, taken) || k.state.Load() == posted {
		return true
	}
	k.free()
	return false
}

// complete hands a call that was taken back to its caller. A finisher that was
// told is returned, to be flushed.
func (k *call) complete(err error) finisher {
	if k.err == nil {
		k.err = err
	}
	if k.state.CompareAndSwap(taken, done) {
		if k.to == nil {
			k.ready <- struct{}{}
			return nil
		}
		to, err := k.to, k.err
		k.free()
		to.finished(err)
		return to
	}
	if k.orphaned != nil && k.err == nil {
		k.orphaned(k.cmd)
	}
	k.free()
	return nil
}

// end completes a call by itself.
func (k *call) end(err error) {
	if to := k.complete(err); to != nil {
		to.flush()
	}
}

// refuse completes a call that was not decided.
func (k *call) refuse(err error) {
	if k.take() {
		k.end(err)
	}
}

// do passes cmd to the machine and waits until its result is durable. An
// error means that there is no result: the engine refused the command, or ctx
// or stop ended first. Then it was not carried out, unless the error matches
// lease.ErrUnknown: it may have been or will be, and cmd must not be touched.
//
// stop is the end of the connection that the call is made on. orphaned may be
// nil, see call.
func (c *core) do(ctx context.Context, stop <-chan struct{}, cmd machine.Command, orphaned func(machine.Command)) error {
	if err := ended(ctx, stop); err != nil {
		return err
	}
	k := newCall(cmd, queued)
	k.orphaned = orphaned
	if err := c.submit(k); err != nil {
		k.free()
		return err
	}
	select {
	case <-k.ready:
	case <-ctx.Done():
		if left, known := k.leave(); left {
			return abandonment(ended(ctx, stop), known)
		}
	case <-stop:
		if left, known := k.leave(); left {
			return abandonment(ended(ctx, stop), known)
		}
	}
	err := k.err
	k.free()
	return err
}

// start is do without the wait, and without an end before the outcome.
func (c *core) start(stop <-chan struct{}, cmd machine.Command, to finisher) {
	k := newCall(cmd, queued)
	k.to = to
	c.begin(stop, k)
}

// begin submits a call that has a finisher.
func (c *core) begin(stop <-chan struct{}, k *call) {
	err := lease.ErrClosed
	select {
	case <-stop:
	default:
		err = c.submit(k)
	}
	if err != nil {
		k.refuse(err)
	}
}

// giveUp is leave for a call that has a finisher, and is kept: if it is left,
// the finisher is not told.
func (k *call) giveUp() (left, known bool) {
	if k.state.CompareAndSwap(queued, withdrawn) {
		return true, true
	}
	return k.state.CompareAndSwap(taken, abandoned), false
}

// leave gives the call up to the engine. left is false if it was done before,
// known is true if it will not be decided.
func (k *call) leave() (left, known bool) {
	if k.state.CompareAndSwap(queued, withdrawn) {
		return true, true
	}
	if k.state.CompareAndSwap(taken, abandoned) {
		return true, false
	}
	<-k.ready
	return false, true
}

// post passes a command for whose result nobody waits, and reports whether the
// engine took it. It is decided after all commands passed before it by the
// same goroutine.
func (c *core) post(cmd machine.Command) bool {
	k := newCall(cmd, posted)
	if c.submit(k) != nil {
		k.free()
		return false
	}
	return true
}

// ended says why a call ends early, if it does.
func ended(ctx context.Context, stop <-chan struct{}) error {
	select {
	case <-stop:
		return lease.ErrClosed
	default:
		return ctx.Err()
	}
}

func abandonment(why error, known bool) error {
	if known {
		return why
	}
	return fmt.Errorf("%w: %w", lease.ErrUnknown, why)
}
