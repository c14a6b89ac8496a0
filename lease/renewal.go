package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How soon a failed renewal is tried again, doubling, within a fraction of
// the TTL.
const (
	minRetry = 5 * time.Millisecond
	maxRetry = time.Second
)

// renewal is one call of Renew under way.
type renewal[R any] struct {
	byHand bool // RenewNow's
	held   []*Held[R]
	due    []Due[R]
	sent   Instant
	until  Instant // when it is given up
	cancel context.CancelFunc
}

// renewAt is when a lease that ends at deadline is renewed: when a third of
// its TTL has passed since the request that gave it was sent.
func renewAt(now, deadline Instant, ttl time.Duration) Instant {
	return max(now, deadline.Add(-(ttl - Margin(ttl) - ttl/3)))
}

// takeDue removes from the heap the leases to be renewed next, up to a batch:
// those that are due and those that will be within a twentieth of their TTL.
func (k *Keeper[R]) takeDue(now Instant) []*Held[R] {
	var batch []*Held[R]
	top := k.byRenewal.top()
	if top == nil || top.keys[renewalKey] > now {
		return nil
	}
	for top != nil && len(batch) < k.maxBatch && top.keys[renewalKey] <= now.Add(top.ttl/20) {
		k.byRenewal.remove(top)
		batch = append(batch, top)
		top = k.byRenewal.top()
	}
	return batch
}

// begin marks the leases as being renewed, with the lock held, and returns the
// context for that.
func (k *Keeper[R]) begin(parent context.Context, batch []*Held[R], byHand bool, now Instant) (context.Context, *renewal[R]) {
	r := &renewal[R]{byHand: byHand, held: batch, due: make([]Due[R], len(batch)), sent: now}
	shortest := time.Duration(never)
	for i, h := range batch {
		h.renewing = true
		r.due[i] = Due[R]{Ref: h.ref, TTL: h.ttl}
		// What was granted rules for as long as what is asked is not
		// known: a shorter TTL counts from now, whether or not the reply
		// comes.
		least := min(h.ttl, h.granted)
		if d := Deadline(now, now, 0, least); d < Instant(h.deadline.Load()) {
			k.moveDeadline(h, d)
		}
		shortest = min(shortest, least)
	}
	r.until = now.Add(shortest / 4) // time for three attempts
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(parent)
	k.running[r] = struct{}{}
	if !byHand {
		k.batches++
	}
	return ctx, r
}

// start calls Renew for a batch in a goroutine of its own.
func (k *Keeper[R]) start(batch []*Held[R], now Instant) {
	ctx, r := k.begin(k.ctx, batch, false, now)
	k.calls.Go(func() { k.finish(r, k.call(ctx, r)) })
}

// call calls Renew and returns a result for each lease, whatever happened.
func (k *Keeper[R]) call(ctx context.Context, r *renewal[R]) []Renewed {
	defer r.cancel()
	results, err := k.renew(ctx, r.due)
	if err == nil && len(results) != len(r.due) {
		err = fmt.Errorf("renewal of %d leases got %d results: %w", len(r.due), len(results), ErrUnknown)
	}
	if err != nil {
		if k.ctx.Err() == nil {
			k.logger.Warn("renewal of leases failed", "leases", len(r.due), "err", err)
		}
		results = make([]Renewed, len(r.due))
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// finish applies the results of a renewal and lets the timing goroutine go on.
func (k *Keeper[R]) finish(r *renewal[R], results []Renewed) {
	var ended endings
	k.mu.Lock()
	now := k.clock.Now()
	for i, h := range r.held {
		ended.add(k.applyLocked(h, r.sent, now, results[i]))
	}
	delete(k.running, r)
	if !r.byHand {
		k.batches--
	}
	tick(k.wake)
	k.mu.Unlock()
	ended.run()
	if len(ended) > 0 && k.ctx.Err() == nil {
		k.logger.Warn("leases ended at their renewal", "leases", len(ended))
	}
}

// applyLocked applies one result to one lease. The lease is not being renewed
// any more.
func (k *Keeper[R]) applyLocked(h *Held[R], sent, now Instant, res Renewed) func() {
	h.renewing = false
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
	if h.cause.Load() != nil {
		return nil
	}
	// A renewal does not bring back a lease whose deadline passed meanwhile:
	// its holder may have been told by Check.
	if now >= Instant(h.deadline.Load()) {
		return k.endLocked(h, ErrExpired)
	}
	if cause := causeOf(res.Err); cause != nil && (cause != ErrLost || h.doubts == 0) { //nolint:errorlint // causeOf returns it bare
		return k.endLocked(h, cause)
	}
	if res.Err != nil {
		h.failures++
		if h.auto {
			k.byRenewal.put(h, now.Add(retryAfter(h.ttl, h.failures)))
		}
		return nil
	}
	h.failures = 0
	h.granted = res.TTL
	deadline := Deadline(sent, now, 0, res.TTL)
	if now >= deadline {
		return k.endLocked(h, ErrExpired)
	}
	k.moveDeadline(h, deadline)
	if h.auto {
		k.byRenewal.put(h, renewAt(now, deadline, res.TTL))
	}
	return nil
}

// moveDeadline sets the deadline of a live lease.
func (k *Keeper[R]) moveDeadline(h *Held[R], d Instant) {
	h.deadline.Store(int64(d))
	k.byDeadline.put(h, d)
}

// causeOf returns for which cause a refused renewal ends a lease, nil if it
// does not.
func causeOf(err error) error {
	switch {
	case errors.Is(err, ErrBroken):
		return ErrBroken
	case errors.Is(err, ErrRevoked):
		return ErrRevoked
	case errors.Is(err, ErrNotHeld):
		return ErrLost
	default:
		return nil
	}
}

// retryAfter returns how long to wait after the n-th failure in a row.
func retryAfter(ttl time.Duration, n int) time.Duration {
	d := max(minRetry, ttl/100) << min(n-1, 10)
	return min(d, max(minRetry, ttl/10), maxRetry)
}
