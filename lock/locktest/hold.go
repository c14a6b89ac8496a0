package locktest

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var holdCases = []testCase{
	{"renew_in_batches", renewBatch},
	{"renewed_lease_does_not_expire", staysRenewed},
	{"close_releases", closeReleases},
	{"closed_connection_refuses", closedConn},
}

// renewBatch: each Ref has an outcome of its own, in its place.
func renewBatch(s *suite) {
	const held = 10
	var refs []driver.Ref
	for i := range held {
		r := s.request("holder")
		r.Name += fmt.Sprint("/", i)
		refs = append(refs, ref(r, s.grant(s.conn, r)))
		wrong := refs[len(refs)-1]
		wrong.Holder = "nobody"
		refs = append(refs, wrong)
	}
	check := func(what string, outcomes []driver.Outcome, err error) {
		s.Helper()
		if err != nil || len(outcomes) != len(refs) {
			s.Fatalf("%s: %d outcomes for %d refs, error %v", what, len(outcomes), len(refs), err)
		}
		for i, o := range outcomes {
			if i%2 == 1 {
				s.refused(what+" by nobody", o.Err, lease.ErrNotHeld)
			} else if o.Err != nil {
				s.Errorf("%s of ref %d: %v", what, i, o.Err)
			}
		}
	}
	outcomes, err := s.conn.Renew(s.ctx, refs)
	check("Renew", outcomes, err)
	for i := 0; i < len(outcomes); i += 2 {
		if outcomes[i].TTL <= 0 || outcomes[i].TTL > s.long {
			s.Errorf("Renew gave a TTL of %v; %v was asked", outcomes[i].TTL, s.long)
		}
	}
	outcomes, err = s.conn.Release(s.ctx, refs)
	check("Release", outcomes, err)
	for what, call := range map[string]func(context.Context, []driver.Ref) ([]driver.Outcome, error){
		"Renew": s.conn.Renew, "Release": s.conn.Release,
	} {
		if outcomes, err := call(s.ctx, nil); err != nil || len(outcomes) != 0 {
			s.Errorf("%s of nothing: %v, %v", what, outcomes, err)
		}
	}
}

// staysRenewed: the portable layer's renewals keep a lease over several TTLs.
func staysRenewed(s *suite) {
	l := s.locker()
	le, err := l.Acquire(s.ctx, s.name, &lock.Options{TTL: s.short})
	if err != nil {
		s.Fatalf("Acquire: %v", err)
	}
	waitCtx, cancel := context.WithTimeout(s.ctx, 4*s.short)
	defer cancel()
	_, err = s.locker().Acquire(waitCtx, s.name, nil)
	s.refused("Acquire of a name that is kept", err, context.DeadlineExceeded)
	if err := le.Check(); err != nil {
		s.Errorf("Check: %v", err)
	}
	if err := le.Release(s.ctx); err != nil {
		s.Errorf("Release: %v", err)
	}
}

// closeReleases: a Locker that closes leaves nothing behind, and nothing of its
// own waits on.
func closeReleases(s *suite) {
	l := s.locker()
	le, err := l.Acquire(s.ctx, s.name, nil)
	if err != nil {
		s.Fatalf("Acquire: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Acquire(s.ctx, s.name, nil)
		waiting <- err
	}()
	s.until("the second waits", func() bool { in := s.info(s.name); return in != nil && in.Waiting == 1 })
	if err := l.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.refused("Acquire under way", <-waiting, lock.ErrClosed)
	s.refused("cause of the lease", context.Cause(le.Context()), lock.ErrClosed)
	s.refused("Release after Close", le.Release(s.ctx), lock.ErrNotHeld)
	_, err = l.Acquire(s.ctx, s.name, nil)
	s.refused("Acquire after Close", err, lock.ErrClosed)
	s.free()
}

func closedConn(s *suite) {
	c := s.open()
	holder := s.request("holder")
	s.grant(s.conn, holder)
	waiter := s.queued("waiter")
	s.line(c, waiter)
	waiting := make(chan error, 1)
	go func() {
		_, err := await(s.ctx, c, waiter)
		waiting <- err
	}()
	for range 2 { // it is idempotent
		if err := c.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
	s.refused("Wait under way", <-waiting, lease.ErrClosed)
	_, _, err := c.Acquire(s.ctx, s.request("late"))
	s.refused("Acquire", err, lease.ErrClosed)
	_, err = c.Renew(s.ctx, []driver.Ref{{Name: s.name, Holder: "holder", Token: 1, TTL: s.long}})
	s.refused("Renew", err, lease.ErrClosed)
	_, err = c.List(s.ctx, &driver.ListRequest{Max: 1})
	s.refused("List", err, lease.ErrClosed)
	if in := s.info(s.name); in == nil || len(in.Grants) != 1 {
		s.Errorf("List by another connection: %+v; want the one grant", in)
	}
}
