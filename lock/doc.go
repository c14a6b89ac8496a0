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
// engine knows mem:// and file://, package drivers/remote http:// and https://,
// package drivers/redis redis:// and its relatives.
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
// # Several locks
//
// AcquireAll takes several names at once, all or none of them, and callers that
// do so cannot wait for each other in a circle. Those who take one lock while
// they hold another can: where Caps.Deadlock is set, such a circle is found when
// it comes about, and the youngest of those who wait in it gets ErrDeadlock. For
// that the backend has to know what is held meanwhile: acquire the inner lock
// with the context of the outer Lease (that of Do's function is), or name its
// holder in Options.Within. A lock that is held around the call already is
// refused with ErrAlreadyHeld: locks are not reentrant, and a shared lock is not
// upgraded to an exclusive one; release it first.
//
// # Errors
//
// Compare errors with errors.Is. ErrUnknown means that the request may have
// been carried out; what might be left of it is undone in the background, and
// Close waits for that, within bounds.
package lock
