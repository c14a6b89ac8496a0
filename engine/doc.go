// Package engine is the embedded backend for locks and queues: one store, one
// process, no other software.
//
//	e, err := engine.Open(ctx, "file:///var/lib/lockkeeper", nil)
//	locks := lock.New(e.Locks(), nil)
//	queues := queue.New(e.Queues(), nil)
//
// Importing the package also makes lock.Open and queue.Open know the URLs
// mem://, mem://NAME and file://DIR. The parameters are min_ttl (the shortest
// TTL of a lock, 1s) and token_base (see Options).
//
// # How it works
//
// Calls queue up for one goroutine, the writer. It passes them to package
// machine, which decides each in memory given the time, and puts the changes
// of all of them into one batch of package store. Another goroutine, the
// syncer, waits until the batch is durable, and only then hands the results
// to the callers, grants and deliveries too. Whatever queued up meanwhile is
// the next round: the busier it is, the more calls share a sync. Up to four
// rounds are on their way at once. Rounds complete in order, also those that
// changed nothing: what a reply reveals is durable.
//
// # What is durable, and what is in memory only
//
// On file://, durable when the call returns: grants and releases of locks
// (and a longer TTL of a renewal), revocations, a lock-delay that has begun;
// the topology, published messages, dedup ids, acks, failed attempts. Tokens
// are reserved in advance, durably, so that they never go back. Before a
// delivery goes out, it is durable that it is in flight.
//
// In memory only: renewals, because what they change is the end of a lease,
// which a restart moves anyway; the waiters of a lock, because their clients
// hold tickets that put them back; who listens on a queue. mem:// keeps
// everything in memory and forgets it when its last user closes it.
//
// # What a restart does
//
// Every lock that was held is held, by its holder and with its token, for its
// full TTL from the moment of the open: nobody knows how much of it had
// passed, because no clock of the machine can be trusted over a restart. So
// it may end later than it would have, and never earlier: a grant from before
// cannot overlap with one from after. A lock-delay begins anew likewise.
//
// Names that were in use are given to nobody new for one second after the
// open, so that waiters who return with their tickets find their places.
//
// Deliveries that were in flight have their lease anew and keep their tokens:
// a late ack of a consumer that is still at work settles them, and one key
// does not run twice at once. A delivery that ended before the crash, other
// than by an ack, has its end on disk before the message goes out again, so
// that its late ack stays refused.
//
// # Time
//
// Leases are measured on a clock that runs on while the machine sleeps and
// is never stepped. The wall clock decides about schedules and dedup windows,
// and about how much of a backoff is left after a restart.
//
// # Failure
//
// After a write or a sync that failed nobody can know what is on the disk.
// The engine stops: calls whose changes were under way return
// lease.ErrUnknown, all others, from then on, lease.ErrUnavailable with the
// reason; see Engine.Done. Close it and open it anew.
//
// When the disk is full, calls that need more of it (new grants, publishes,
// declarations) return lease.ErrNoSpace; a reserve lets releases, acks and
// renewals go on. If not even that is left, and the store cannot write its tables,
// all calls are refused with the reason; time stands still for the leases, so
// that nobody is granted what another may hold. It works again when there is
// room.
//
// A second process that opens the directory gets an error at once. So it does
// with a store of a format that it does not know, or that is damaged.
package engine
