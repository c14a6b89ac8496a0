package driver

// Starter is a Conn that begins calls which no goroutine waits for. A server
// with many calls under way needs none for each of them then.
//
// What is passed in is checked by the caller, as by Request.Validate, and is
// the driver's from then on: it must not be changed any more. The outcome is
// told once, in a goroutine that others wait for, maybe before the call
// returns: who is told must not block. A call that has begun cannot be given
// up; one that is begun or under way when the Conn is closed gets
// lease.ErrClosed, or its outcome.
type Starter interface {
	// StartAcquire begins an Acquire.
	StartAcquire(r *Request, to Acquirer)
	// StartRelease begins a Release, of at most MaxBatch leases.
	StartRelease(refs []Ref, to Releaser)
}

// Acquirer is told what an Acquire would have returned.
type Acquirer interface {
	Acquired(g *Grant, t *Ticket, err error)
}

// Releaser is told what a Release would have returned.
type Releaser interface {
	Released(outcomes []Outcome, err error)
}
