package lease

import (
	"context"
	"sync/atomic"
	"time"
)

var (
	expired  = ErrExpired
	released = ErrReleased
)

// kept returns a pointer to cause for Held.cause: for how most leases end there
// is one already.
func kept(cause error) *error { //nolint:gocritic // what an atomic.Pointer holds
	switch cause {
	case ErrReleased: //nolint:errorlint // the bare one: what wraps it says more
		return &released
	case ErrExpired:
		return &expired
	}
	own := cause
	return &own
}

// Held is one lease in the charge of a Keeper. All methods may be called
// concurrently; only RenewNow does I/O.
type Held[R any] struct {
	keeper   *Keeper[R]
	ref      R
	owner    Owner                 // nil: nobody
	deadline atomic.Int64          // an Instant
	cause    atomic.Pointer[error] // nil while live

	// Under keeper.mu:
	parent   context.Context // without cancel; values only
	ctx      context.Context // made when first asked for
	cancel   context.CancelCauseFunc
	ttl      time.Duration // to be asked for
	granted  time.Duration // by the last success
	auto     bool          // renewed in the background
	renewing bool
	waiting  chan struct{} // closed when renewing ends; nil if nobody waits
	failures int           // in a row
	doubts   int           // see Doubt
	keys     [2]Instant    // places in the two heaps
	slots    [2]int
}

// Ref returns what was given to Hold.
func (h *Held[R]) Ref() R { return h.ref }

// Context ends when the lease does, at its local deadline at the latest;
// context.Cause says why: ErrExpired, ErrLost, ErrRevoked, ErrBroken, or the
// cause given to End or Close.
func (h *Held[R]) Context() context.Context {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.makeContext()
	return h.ctx
}

func (h *Held[R]) makeContext() {
	if h.ctx == nil {
		h.ctx, h.cancel = context.WithCancelCause(h.parent)
		if cause := h.cause.Load(); cause != nil {
			h.cancel(*cause)
		}
	}
}

// Interrupt ends the Context with cause, and not the lease: its holder is to
// stop, and to give it up in good order.
func (h *Held[R]) Interrupt(cause error) {
	h.keeper.mu.Lock()
	h.makeContext()
	cancel := h.cancel
	h.keeper.mu.Unlock()
	cancel(cause)
}

// Check returns nil while the lease is held, and otherwise why it ended. It
// reads the clock, so that it is right also where the Context could not yet be
// ended: just after the process was stopped or the machine suspended.
func (h *Held[R]) Check() error { return h.CheckAt(h.keeper.clock.Now()) }

// CheckAt is Check by a reading of the clock that is a moment old at most: for
// those who check many leases at once.
func (h *Held[R]) CheckAt(now Instant) error {
	if cause := h.cause.Load(); cause != nil {
		return *cause
	}
	if now < Instant(h.deadline.Load()) {
		return nil
	}
	// The deadline may have been moved between the two reads: End decides.
	h.endIfPast()
	if cause := h.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// endIfPast ends the lease if its deadline has passed.
func (h *Held[R]) endIfPast() {
	k := h.keeper
	var ended endings
	k.mu.Lock()
	if k.clock.Now() >= Instant(h.deadline.Load()) {
		ended.add(k.endLocked(h, ErrExpired))
	}
	k.mu.Unlock()
	ended.run()
}

// Deadline returns when the lease ends unless it is renewed. For a lease that
// ended it is the last one it had.
func (h *Held[R]) Deadline() Instant { return Instant(h.deadline.Load()) }

// End ends the lease with cause and says whether it was this call that did;
// false means that it was over already. Neither the backend nor the Owner is
// told.
func (h *Held[R]) End(cause error) bool {
	h.keeper.mu.Lock()
	live := h.keeper.markLocked(h, cause)
	cancel := h.cancel
	h.keeper.mu.Unlock()
	if live && cancel != nil {
		cancel(cause)
	}
	return live
}

func (h *Held[R]) tellOwner(cause error) {
	if h.owner != nil {
		go h.owner.LeaseEnded(cause)
	}
}

// Doubt says that a request is under way that ends the lease at the backend if
// it is carried out. Until resolved is called, once, a renewal that finds the
// lease gone is taken for one that failed: the lease goes on, to its deadline
// at most, and it is left to the caller to say how it ended.
func (h *Held[R]) Doubt() (resolved func()) {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.doubts++
	return func() {
		h.keeper.mu.Lock()
		defer h.keeper.mu.Unlock()
		h.doubts--
	}
}

// SetTTL says what to ask for from the next renewal on. A shorter one counts
// from the moment in which that renewal is sent.
func (h *Held[R]) SetTTL(d time.Duration) {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.ttl = d
}

// RenewNow renews the lease in one attempt, after a renewal that is under way.
// It returns nil when it was renewed, why the lease ended if it ended, and
// otherwise what went wrong: then the lease goes on until its deadline.
func (h *Held[R]) RenewNow(ctx context.Context) error {
	k := h.keeper
	ctx, r, err := h.beginNow(ctx)
	if err != nil {
		return err
	}
	defer k.calls.Done()
	defer context.AfterFunc(k.ctx, r.cancel)()
	results := k.call(ctx, r)
	k.finish(r, results)
	if cause := h.cause.Load(); cause != nil {
		return *cause
	}
	return results[0].Err
}

// beginNow waits until the lease is not being renewed and marks it so.
func (h *Held[R]) beginNow(ctx context.Context) (context.Context, *renewal[R], error) {
	k := h.keeper
	for {
		if err := h.Check(); err != nil {
			return nil, nil, err
		}
		k.mu.Lock()
		if cause := h.cause.Load(); cause != nil {
			k.mu.Unlock()
			return nil, nil, *cause
		}
		if !h.renewing {
			k.byRenewal.remove(h)
			ctx, r := k.begin(ctx, []*Held[R]{h}, true, k.clock.Now())
			k.calls.Add(1) // before Close could wait: the lease is live
			tick(k.wake)   // to give it up in time
			k.mu.Unlock()
			return ctx, r, nil
		}
		if h.waiting == nil {
			h.waiting = make(chan struct{})
		}
		wait := h.waiting
		k.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
