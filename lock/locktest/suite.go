// Package locktest is the conformance suite for lock drivers: a driver is done
// when Run passes. Each case is one promise of packages lock and lock/driver,
// and bears its name.
//
// What a backend does not have, by its Caps, it must refuse with
// lease.ErrUnsupported: the cases check that instead of being left out.
package locktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Harness gives the suite one backend.
type Harness struct {
	// Open returns a connection to the backend, each as from a client of its
	// own. The suite closes it.
	Open func(t testing.TB) driver.Conn

	// Restart stops the backend, as a crash would, and starts it again on the
	// same store. Connections from before need not work after it. nil:
	// the backend cannot be restarted; it must not claim to be Durable then.
	Restart func(t testing.TB)

	// Cut makes the backend unreachable for a connection, so that its calls
	// hang or fail, and heals it again. nil: it cannot be cut.
	Cut func(t testing.TB, c driver.Conn, cut bool)

	// Names makes the name of a lock out of one of the suite's, where names
	// need a form to be acquired together. The suite appends to it. nil: as
	// they are.
	Names func(name string) string

	// ShortTTL is for the cases that wait until a lease expires: long enough
	// that a live holder renews in time on a loaded machine. 0 is the larger
	// of the backend's shortest and half a second.
	ShortTTL time.Duration

	// Waiters is how many wait in the case on order; 0 is 1,000.
	Waiters int
}

// caseTime bounds one case.
const caseTime = 3 * time.Minute

// testCase is one promise.
type testCase struct {
	name string
	run  func(s *suite)
}

// allCases returns the cases in the order in which they run.
func allCases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{
		exclusionCases, tokenCases, lineCases, sharingCases, repeatCases,
		severalCases, deadlockCases, electionCases, watchCases,
		holdCases, expiryCases, operatorCases, limitCases, outageCases,
	} {
		all = append(all, group...)
	}
	return all
}

// Run runs the suite. The cases use names of their own, so that the backend
// need not be empty, and run one after another, because they measure time.
func Run(t *testing.T, h Harness) {
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) { runCase(t, h, c, caseTime) })
	}
}

func runCase(t testing.TB, h Harness, c testCase, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s := &suite{TB: t, h: h, ctx: ctx, name: "locktest/" + c.name + "/" + rand.Text()}
	if h.Names != nil {
		s.name = h.Names(s.name)
	}
	s.conn = s.open()
	s.caps = s.conn.Caps()
	s.long = min(max(5*time.Minute, s.caps.MinTTL), s.caps.MaxTTL)
	s.short = h.ShortTTL
	if s.short == 0 {
		s.short = max(s.caps.MinTTL, 500*time.Millisecond)
	}
	c.run(s)
}

// suite is what a case works with.
type suite struct {
	testing.TB
	h     Harness
	ctx   context.Context // bounds the case
	conn  driver.Conn
	caps  driver.Caps
	name  string        // a lock's name of this case's own
	long  time.Duration // a TTL that does not end within a case
	short time.Duration // one that does
}

// open returns one more connection.
func (s *suite) open() driver.Conn {
	s.Helper()
	c := s.h.Open(s.TB)
	s.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.Errorf("close of a connection: %v", err)
		}
	})
	return c
}

// locker returns a Locker over a connection of its own.
func (s *suite) locker() *lock.Locker {
	s.Helper()
	l := lock.New(s.h.Open(s.TB), nil)
	s.Cleanup(func() {
		if err := l.Close(); err != nil {
			s.Errorf("close of a Locker: %v", err)
		}
	})
	return l
}

// request asks for the case's name, with the holder's id as the request's id.
func (s *suite) request(holder string) *driver.Request {
	return &driver.Request{Name: s.name, Holder: holder, ID: holder + "/1", TTL: s.long}
}

// queued is a request that takes a place in the line.
func (s *suite) queued(holder string) *driver.Request {
	r := s.request(holder)
	r.Queue = true
	return r
}

// ref names the grant of a request.
func ref(r *driver.Request, g *driver.Grant) driver.Ref {
	return driver.Ref{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}
}

// grant makes a request that must be granted at once.
func (s *suite) grant(c driver.Conn, r *driver.Request) *driver.Grant {
	s.Helper()
	g, ticket, err := c.Acquire(s.ctx, r)
	if err != nil || g == nil || ticket != nil {
		s.Fatalf("Acquire of the free name by %s: grant %v, ticket %v, error %v; want a grant", r.Holder, g, ticket, err)
	}
	if g.Token == 0 || g.TTL <= 0 || g.TTL > r.TTL || g.Waited < 0 {
		s.Fatalf("grant %+v for a TTL of %v: want a token, a TTL up to that, and no negative wait", *g, r.TTL)
	}
	return g
}

// line makes a request that must get a place in the line.
func (s *suite) line(c driver.Conn, r *driver.Request) {
	s.Helper()
	g, ticket, err := c.Acquire(s.ctx, r)
	if err != nil || g != nil || ticket == nil {
		s.Fatalf("Acquire of the held name by %s: grant %v, ticket %v, error %v; want a ticket", r.Holder, g, ticket, err)
	}
	if len(ticket.Opaque) > driver.MaxTicket {
		s.Fatalf("ticket of %d bytes, the limit is %d", len(ticket.Opaque), driver.MaxTicket)
	}
	r.Ticket = ticket
}

// stand keeps the place of a request in the line until the case ends: a place
// that nobody stands at is given up.
func (s *suite) stand(c driver.Conn, r *driver.Request) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if g, err := await(ctx, c, r); ctx.Err() == nil {
			s.Errorf("%s left the line: grant %v, error %v", r.Holder, g, err)
		}
	})
	s.Cleanup(func() { cancel(); wg.Wait() })
}

// await waits until the request is granted, as the portable layer does.
func await(ctx context.Context, c driver.Conn, r *driver.Request) (*driver.Grant, error) {
	for {
		if r.Ticket == nil {
			g, ticket, err := c.Acquire(ctx, r)
			if err != nil || g != nil {
				return g, err
			}
			r.Ticket = ticket
		}
		g, err := c.Wait(ctx, r, r.Ticket)
		if err != nil || g != nil {
			return g, err
		}
		g, ticket, err := c.Acquire(ctx, r)
		if err != nil || g != nil {
			return g, err
		}
		r.Ticket = ticket
	}
}

// mustAwait is await without an error.
func (s *suite) mustAwait(c driver.Conn, r *driver.Request) *driver.Grant {
	s.Helper()
	g, err := await(s.ctx, c, r)
	if err != nil {
		s.Fatalf("%s waited for the name: %v", r.Holder, err)
	}
	return g
}

// release releases a grant that must be live.
func (s *suite) release(c driver.Conn, r driver.Ref) {
	s.Helper()
	if err := one(c.Release(s.ctx, []driver.Ref{r})); err != nil {
		s.Fatalf("Release by %s: %v", r.Holder, err)
	}
}

// one returns the error of a call for one Ref.
func one(outcomes []driver.Outcome, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("the call failed: %w", err)
	case len(outcomes) != 1:
		return fmt.Errorf("%d outcomes for one Ref", len(outcomes))
	default:
		return outcomes[0].Err
	}
}

// refused checks that err matches want.
func (s *suite) refused(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: error %v; want one that matches %q", what, err, want)
	}
}

// info returns what List says of a name, nil if nothing.
func (s *suite) info(name string) *driver.Info {
	s.Helper()
	return s.infoBy(s.conn, name)
}

func (s *suite) infoBy(c driver.Conn, name string) *driver.Info {
	s.Helper()
	found, err := c.List(s.ctx, &driver.ListRequest{Name: name, Max: 1})
	if err != nil {
		s.Fatalf("List of %q: %v", name, err)
	}
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

// until polls what another client's call will change, and fails with the case's
// time.
func (s *suite) until(what string, ok func() bool) {
	s.Helper()
	for !ok() {
		select {
		case <-s.ctx.Done():
			s.Fatalf("it never came that %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// ends waits until the lease's context ends.
func (s *suite) ends(le *lock.Lease) {
	s.Helper()
	select {
	case <-le.Context().Done():
	case <-s.ctx.Done():
		s.Fatalf("the holder's context never ended")
	}
}

// free waits until nobody holds or awaits the case's name.
func (s *suite) free() {
	s.Helper()
	s.until("the name has neither holder nor waiter", func() bool {
		in := s.info(s.name)
		return in == nil || len(in.Grants) == 0 && in.Waiting == 0
	})
}

// lacks checks the refusal of a request that needs what the backend lacks, and
// reports whether it lacks it.
func (s *suite) lacks(has bool, r *driver.Request) bool {
	s.Helper()
	if has {
		return false
	}
	_, _, err := s.conn.Acquire(s.ctx, r)
	s.refused("Acquire of what the capabilities deny", err, lease.ErrUnsupported)
	if in := s.info(r.Name); in != nil {
		s.Errorf("the refused request left %+v", *in)
	}
	return true
}
