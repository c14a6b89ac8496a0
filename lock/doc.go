// Package lock is a distributed lock: exclusive and shared locks and
// semaphores, each grant a lease with a fencing token, on whichever backend a
// URL names.
//
//	locks, err := lock.Open(ctx, "file:///var/lib/lockkeeper")
//	...
//	defer locks.Close()
//	err = locks.Do(ctx, "orders/4711", nil, func(ctx context.Context, l *lock.Lease) error {
//		return store.Update(ctx, order, l.Token()) // refuses a lower token
//	})
//
// The schemes of URLs come from the drivers that the program imports: package
// engine knows mem:// and file://, package drivers/remote knows http:// and
// https://.
//
// # What a Lease is worth
//
// A Lease is renewed in the background from a third of its TTL on. Its Context
// ends when it is released, refused by the backend, or at its local deadline,
// which lies before the moment at which the backend grants to somebody else
// (Caps.Loss and Caps.Clock say under which assumptions). A process that was
// stopped learns of it only when it runs on: call Check before what must not
// be done twice, and pass Token on to whatever is guarded, so that it can
// refuse a holder that was overtaken.
//
// # Waiting
//
// Acquire waits for its turn, in the order in which the backend recorded the
// requests if Caps.FIFO is set. Its ctx bounds the waiting and not the lease.
// A backend that is away is tried again until ctx ends, without losing the
// place in the line.
//
// # Errors
//
// Compare errors with errors.Is. ErrUnknown means that the request may have
// been carried out; what might be left of it is undone in the background, and
// Close waits for that, within bounds.
package lock
