package server

import (
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// standing is what an acquire without a goroutine has if it waits: it is begun
// as an Acquire, which gives it a place in the line, and a Wait in it; and again
// if the place gets lost.
type standing struct {
	mu    sync.Mutex
	ended ending
	call  int                    // counts the Waits, as they are begun and told
	waits bool                   // a Wait is under way
	wait  lockdriver.StartedWait // to stop it; nil: it has just been begun
}

// ending is why an acquire waits no longer.
type ending int

const (
	endNot       ending = iota
	endDrained          // the daemon is shutting down: the client comes back with the ticket
	endCancelled        // by a frame, by HTTP, or with the session
)

// stood is told what became of the Acquire or the Wait that was begun last. more
// says that another one is; otherwise the request is to be answered.
func (a *acquiring) stood(grant *lockdriver.Grant, ticket *lockdriver.Ticket, err error) (more bool, _ *lockdriver.Ticket, _ error) {
	st := a.standing
	st.mu.Lock()
	waited, ended := st.waits, st.ended
	st.waits, st.wait = false, nil
	st.call++
	st.mu.Unlock()
	if waited {
		a.stopCounting()
	}
	switch {
	case grant != nil:
		return false, nil, nil
	case waited && ended != endNot:
		ticket, err = a.endedBy(ended)
		return false, ticket, err
	case err != nil && waited:
		return false, nil, withTicket(err, a.req.Ticket)
	case err != nil:
		return false, nil, err
	case waited: // the place is lost
		a.began = time.Now()
		a.starter.StartAcquire(&a.req, a)
		return true, nil, nil
	}
	isNew := isNewTicket(&a.req, ticket)
	a.req.Ticket = ticket
	switch {
	case ended != endNot:
		ticket, err = a.endedBy(ended)
		return false, ticket, err
	case a.ss.s.draining():
		return false, ticket, nil
	}
	if isNew {
		b := frame.Buffer()
		*b = frame.AppendQueued(*b, ticket)
		a.ss.s.metrics.counted(frame.Queued)
		_ = a.ss.gather(a.id, b, 0, nil) // a session that has ended ends the wait
	}
	if err := a.ss.s.countWaiter(); err != nil {
		return false, nil, withTicket(err, ticket)
	}
	a.ss.s.metrics.lockWaiters.Inc()
	a.stand()
	return true, nil, nil
}

func (a *acquiring) stopCounting() {
	a.ss.s.metrics.lockWaiters.Dec()
	a.ss.s.waiters.Add(-1)
}

// endedBy is how a request is answered that waits no longer.
func (a *acquiring) endedBy(why ending) (*lockdriver.Ticket, error) {
	if why == endDrained {
		return a.req.Ticket, nil
	}
	return nil, errCancelled(a.newCall())
}

// stand begins to wait.
func (a *acquiring) stand() {
	st := a.standing
	st.mu.Lock()
	st.waits = true
	call := st.call
	st.mu.Unlock()
	a.began = time.Now()
	wait := a.starter.StartWait(&a.req, a)
	st.mu.Lock()
	if st.call != call { // it has been told already, and other calls may have been begun
		st.mu.Unlock()
		return
	}
	st.wait = wait
	ended := st.ended
	st.mu.Unlock()
	switch {
	case ended != endNot:
		a.end(ended)
	case a.ss.s.draining(): // whoever told the others may not have seen this one
		a.end(endDrained)
	}
}

// end ends the wait, or has it ended as soon as it begins. It may be called by
// anybody, and more than once.
func (a *acquiring) end(why ending) {
	st := a.standing
	st.mu.Lock()
	st.ended = max(st.ended, why)
	why = st.ended
	wait := st.wait
	st.mu.Unlock()
	if wait == nil || !wait.Stop() {
		return // it is told
	}
	a.stopCounting()
	ticket, err := a.endedBy(why)
	a.ss.s.acquires.leave(&a.entered)
	// Whoever ends it does not wait for the client.
	if !a.ss.spawn(func() { a.answer(nil, ticket, err) }) {
		a.now = true
		a.answer(nil, ticket, err)
		a.Flush()
	}
}
