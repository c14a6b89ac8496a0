package driver

import (
	"fmt"
	"strings"
)

// DeadlockError says in which circle a request waited. It matches
// ErrDeadlock.
type DeadlockError struct {
	// Cycle has the waits of the circle, each of them for the next and the
	// last for the first.
	Cycle []Waiting
}

// Waiting is a wait of a circle.
type Waiting struct {
	Owner  string // the holder that keeps something others want while this wait lasts
	Holder string // of the request that waits: the Owner, or one within it
	Name   string // what it waits for
	Behind bool   // the next owner does not hold Name, but is ahead in its line
}

// Error implements error.
func (e *DeadlockError) Error() string {
	var b strings.Builder
	b.WriteString("deadlock: ")
	for i, w := range e.Cycle {
		next := e.Cycle[(i+1)%len(e.Cycle)].Owner
		if i > 0 {
			b.WriteString("; ")
		}
		how := "held by"
		if w.Behind {
			how = "behind"
		}
		fmt.Fprintf(&b, "%q waits for %q %s %q", w.Owner, w.Name, how, next)
	}
	return b.String()
}

// Is reports that a DeadlockError is an ErrDeadlock.
func (e *DeadlockError) Is(target error) bool { return target == ErrDeadlock }
