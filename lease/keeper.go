package lease

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of a Keeper.
const (
	DefaultMaxBatch = 500 // refs in one call of Renew
	maxRenewCalls   = 4   // calls of Renew under way at once, RenewNow apart
)

// KeeperConfig configures a Keeper for references of type R.
type KeeperConfig[R any] struct {
	// Renew gives each lease its TTL anew, in one attempt: the results are
	// as many as due, or err is non-nil and nothing is known. A Renewed.Err
	// that matches ErrNotHeld, ErrRevoked or ErrBroken ends the lease; any
	// other error is tried again until the lease's deadline. Renew is called
	// from several goroutines; it must return soon after ctx ended, which
	// happens at the latest a quarter of the shortest TTL after the call.
	Renew func(ctx context.Context, due []Due[R]) ([]Renewed, error)
	// Clock judges the deadlines; nil is SystemClock.
	Clock Clock
	// Logger gets failed renewals and losses; nil discards them.
	Logger *slog.Logger
	// MaxBatch is how many leases one call of Renew gets at most; 0 is
	// DefaultMaxBatch.
	MaxBatch int
}

// Due is a lease to be renewed, and for how long.
type Due[R any] struct {
	Ref R
	TTL time.Duration
}

// Renewed is the result for one Due: an error, or the TTL that the backend
// gave.
type Renewed struct {
	Err error
	TTL time.Duration
}

// Keeper looks after all leases of one client: it renews those that want it,
// in batches, from a third of their TTL on, and ends each at its local
// deadline at the latest. It has one goroutine for the timing, which never
// waits for a renewal, and a few short-lived ones that call Renew. All
// methods may be called concurrently.
type Keeper[R any] struct {
	renew    func(context.Context, []Due[R]) ([]Renewed, error)
	clock    Clock
	logger   *slog.Logger
	maxBatch int

	ctx    context.Context // of all renewals; ended by Close
	cancel context.CancelFunc
	wake   chan struct{} // the earliest instant changed
	done   chan struct{} // the timing goroutine has ended
	calls  sync.WaitGroup

	mu         sync.Mutex
	closed     error // the cause given to Close
	byDeadline heldHeap[R]
	byRenewal  heldHeap[R] // those that are neither being renewed nor fixed
	running    map[*renewal[R]]struct{}
	batches    int     // how many of running are the Keeper's own
	timerAt    Instant // what the timing goroutine sleeps until
}

// NewKeeper starts a Keeper; Close ends it.
func NewKeeper[R any](cfg KeeperConfig[R]) *Keeper[R] {
	k := &Keeper[R]{
		renew: cfg.Renew, clock: cfg.Clock, logger: cfg.Logger, maxBatch: cfg.MaxBatch,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		byDeadline: heldHeap[R]{which: deadlineKey},
		byRenewal:  heldHeap[R]{which: renewalKey},
		running:    make(map[*renewal[R]]struct{}),
		timerAt:    never,
	}
	if k.clock == nil {
		k.clock = SystemClock()
	}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	if k.maxBatch <= 0 {
		k.maxBatch = DefaultMaxBatch
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	go k.run()
	return k
}

// Owner is told, in a goroutine of its own, when a lease ends otherwise than
// by Held.End. It costs nothing until then, where a context that is waited on
// would be made for each lease.
type Owner interface{ LeaseEnded(cause error) }

// Hold takes charge of a lease that was granted for ttl and that its holder
// must consider ended at deadline (see Deadline). Of parent only the values
// are used, for the lease's context. With renew it is renewed in the
// background; otherwise only by RenewNow. A lease whose deadline has passed,
// or that comes after Close, is returned ended.
func (k *Keeper[R]) Hold(parent context.Context, ref R, ttl time.Duration, deadline Instant, renew bool) *Held[R] {
	h := new(Held[R])
	k.HoldIn(h, nil, parent, ref, ttl, deadline, renew)
	return h
}

// HoldIn is Hold into h, which is zero and most likely a part of what its owner
// is, and for that owner, who may be told before it returns. The owner may be
// nil.
func (k *Keeper[R]) HoldIn(h *Held[R], o Owner, parent context.Context, ref R, ttl time.Duration, deadline Instant, renew bool) { //nolint:revive // the context is no bound of this call
	if parent.Done() != nil {
		parent = context.WithoutCancel(parent)
	}
	h.keeper, h.ref, h.owner, h.parent, h.ttl, h.granted, h.auto = k, ref, o, parent, ttl, ttl, renew
	h.slots = [2]int{-1, -1}
	h.deadline.Store(int64(deadline))
	now := k.clock.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed != nil:
		h.cause.Store(&k.closed)
		h.tellOwner(k.closed)
	case now >= deadline:
		h.cause.Store(&expired)
		h.tellOwner(expired)
	default:
		k.byDeadline.put(h, deadline)
		if renew {
			k.byRenewal.put(h, renewAt(now, deadline, ttl))
		}
		if k.nextLocked(now) < k.timerAt { // the timing goroutine sleeps too long
			tick(k.wake)
		}
	}
}

// Len returns how many leases are live.
func (k *Keeper[R]) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.byDeadline.items)
}

// Close ends every lease with cause and every renewal under way, and returns
// the leases that it ended when the Keeper's goroutines are gone. Closing again
// waits too.
func (k *Keeper[R]) Close(cause error) []R {
	k.mu.Lock()
	if k.closed == nil {
		k.closed = cause
	}
	var ended endings
	var refs []R
	for n := len(k.byDeadline.items); n > 0; n-- { // from the end: nothing is sifted
		h := k.byDeadline.items[n-1]
		refs = append(refs, h.ref)
		ended.add(k.endLocked(h, k.closed))
	}
	k.mu.Unlock()
	ended.run()
	k.cancel()
	<-k.done
	k.calls.Wait()
	return refs
}

// run is the timing goroutine.
func (k *Keeper[R]) run() {
	defer close(k.done)
	timer := k.clock.NewTimer()
	defer timer.Stop()
	for {
		next := k.step()
		if next != never {
			timer.Reset(next)
		}
		select {
		case <-k.ctx.Done():
			return
		case <-timer.C():
		case <-k.wake:
		}
	}
}

// step does all that is due now and returns when to come again.
func (k *Keeper[R]) step() Instant {
	var ended endings
	k.mu.Lock()
	now := k.clock.Now()
	for top := k.byDeadline.top(); top != nil && top.keys[deadlineKey] <= now; top = k.byDeadline.top() {
		ended.add(k.endLocked(top, ErrExpired))
	}
	for r := range k.running {
		if r.until <= now {
			r.cancel()
		}
	}
	if k.closed == nil {
		for k.batches < maxRenewCalls {
			batch := k.takeDue(now)
			if len(batch) == 0 {
				break
			}
			k.start(batch, now)
		}
	}
	k.timerAt = k.nextLocked(now)
	next := k.timerAt
	k.mu.Unlock()
	ended.run()
	if len(ended) > 0 {
		k.logger.Warn("leases expired", "leases", len(ended))
	}
	return next
}

// nextLocked returns the earliest instant at which step has something to do.
func (k *Keeper[R]) nextLocked(now Instant) Instant {
	next := never
	if top := k.byDeadline.top(); top != nil {
		next = top.keys[deadlineKey]
	}
	if top := k.byRenewal.top(); top != nil && k.batches < maxRenewCalls {
		next = min(next, top.keys[renewalKey])
	}
	for r := range k.running {
		if r.until > now { // the others are cancelled, and wake us when they return
			next = min(next, r.until)
		}
	}
	return next
}

// endLocked ends a live lease and returns what to run outside of the lock; nil
// if it was over.
func (k *Keeper[R]) endLocked(h *Held[R], cause error) func() {
	if !k.markLocked(h, cause) {
		return nil
	}
	cancel := h.cancel
	return func() {
		if cancel != nil {
			cancel(cause)
		}
		h.tellOwner(cause)
	}
}

// markLocked makes a live lease an ended one, and says whether it was live.
func (k *Keeper[R]) markLocked(h *Held[R], cause error) bool {
	if h.cause.Load() != nil {
		return false
	}
	h.cause.Store(kept(cause))
	k.byDeadline.remove(h)
	k.byRenewal.remove(h)
	return true
}

// endings are contexts to be cancelled once the lock is free: what hangs on
// a context may call the Keeper.
type endings []func()

func (e *endings) add(f func()) {
	if f != nil {
		*e = append(*e, f)
	}
}

func (e endings) run() {
	for _, f := range e {
		f()
	}
}
