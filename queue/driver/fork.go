package driver

// Forker is a Conn that can open another one to the same backend, as cheaply.
// Each has an identity of its own: consumers leave with the connection that
// they receive over, and queues that are Exclusive belong to the connection
// that declared them. A server gives each of its clients' connections one.
type Forker interface {
	// Fork returns a Conn that is to be closed by itself. It is one whose
	// calls are lease.ErrClosed if the backend is closed. Closing the Conn
	// that was forked leaves it open, unless that closes the backend.
	Fork() Conn
}
