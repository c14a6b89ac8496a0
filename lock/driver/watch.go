package driver

import (
	"context"

	"github.com/lockkeeper/lockkeeper/lease"
)

// WatchRequest says what to watch: exactly Name, or all names that begin with
// Prefix.
type WatchRequest struct {
	Name   string // excludes Prefix
	Prefix string
}

// Validate checks the request.
func (r *WatchRequest) Validate() error {
	switch {
	case r.Name != "" && r.Prefix != "":
		return lease.Invalidf("name", "excludes prefix")
	case r.Name != "":
		return ValidateName("name", r.Name)
	case r.Prefix != "":
		return ValidateName("prefix", r.Prefix)
	}
	return nil
}

// Watcher tells what becomes of the names of a watch. It begins with
// EventReset, the state of each name in use, and EventSynced; from then on it
// tells the state of each name that has changed since: who holds it, with
// which value, who waits. That a lease was renewed is no change.
//
// It tells states and not histories. Of a name that changes faster than Next is
// called only the last state is told, and if more names have changed than the
// backend keeps for a watch, all begins anew with EventReset. What is told is
// durable.
type Watcher interface {
	// Next returns at least one event, and blocks until there is one. It is
	// called by one goroutine at a time. If ctx ends, what has happened since
	// is told by the next call. Any other error ends the watch:
	// lease.ErrUnavailable if it can be begun again.
	Next(ctx context.Context) ([]Event, error)

	// Close ends the watch, and a Next that is under way.
	Close() error
}

// EventKind says what an Event tells.
type EventKind string

// Kinds of events.
const (
	EventReset  EventKind = "reset"  // forget what was told: the state of all names follows
	EventState  EventKind = "state"  // Info is the state of a name
	EventGone   EventKind = "gone"   // Info.Name has neither holder nor waiter nor lock-delay; it may not have been told before
	EventSynced EventKind = "synced" // all names have been told since the reset
)

// Event is something that a Watcher tells.
type Event struct {
	Kind EventKind
	Info Info // with EventState; its Name alone with EventGone
}
