package driver

// Starter is a Conn that begins calls which no goroutine waits for. A server
// with many calls under way needs none for each of them then.
//
// What is passed in is checked by the caller, as by Request.Validate, and is
// the driver's from then on: it must not be changed any more. The outcome is
// told once, in a goroutine that others wait for, maybe before the call
// returns: who is told must not block. A call that has begun cannot be given
// up, except for a wait; one that is begun or under way when the Conn is closed
// gets lease.ErrClosed, or its outcome.
type Starter interface {
	// StartAcquire begins an Acquire.
	StartAcquire(r *Request, to Acquirer)
	// StartRelease begins a Release, of at most MaxBatch leases.
	StartRelease(refs []Ref, to Releaser)
	// StartWait begins a Wait, with the ticket that is in r.
	StartWait(r *Request, to Acquirer) StartedWait
}

// StartedWait is a Wait that was begun.
type StartedWait interface {
	// Stop gives it up, as the end of a Wait's context does. It reports false
	// if the outcome was told, or is about to be; otherwise nothing is told.
	Stop() bool
}

// Flusher is told what has become of something that was begun, and then, when
// the driver has told all that there is to be told at that moment, to others
// too, it is flushed: what it does with it may wait until then.
type Flusher interface{ Flush() }

// Acquirer is told what an Acquire or a Wait would have returned.
type Acquirer interface {
	Flusher
	Acquired(g *Grant, t *Ticket, err error)
}

// Releaser is told what a Release would have returned.
type Releaser interface {
	Flusher
	Released(outcomes []Outcome, err error)
}
