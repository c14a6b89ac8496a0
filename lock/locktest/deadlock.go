package locktest

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var deadlockCases = []testCase{
	{"deadlock_of_two", deadlockOfTwo},
	{"deadlock_of_three", deadlockOfThree},
	{"deadlock_by_the_holders_own_waits", deadlockOfHolders},
	{"deadlock_through_several_names", deadlockThroughSeveral},
	{"deadlock_through_the_line", deadlockThroughLine},
	{"deadlock_through_shared_holders", deadlockThroughShared},
	{"deadlock_by_context", deadlockByContext},
	{"no_false_deadlock", noFalseDeadlock},
	{"reentrance_is_refused", reentrance},
	{"upgrade_is_refused", upgrade},
}

// own makes an id of this case's own: what other cases left may still wait.
func (s *suite) own(holder string) string {
	return holder + s.name[strings.LastIndexByte(s.name, '/'):]
}

// part returns a queued request for some of the case's names within a holder.
func (s *suite) part(holder, within string, suffixes ...string) *driver.Request {
	r := s.several(s.own(holder), suffixes...)
	if within != "" {
		r.Within = []string{s.own(within)}
	}
	return r
}

// take makes holder the holder of one of the case's names.
func (s *suite) take(holder, suffix string) (*driver.Request, *driver.Grant) {
	s.Helper()
	r := s.part(holder, "", suffix)
	return r, s.grant(s.conn, r)
}

// listen has a request wait and returns where its outcome will be.
func (s *suite) listen(r *driver.Request) <-chan error {
	s.Helper()
	s.line(s.conn, r)
	out := make(chan error, 1)
	go func() {
		_, err := await(s.ctx, s.conn, r)
		out <- err
	}()
	return out
}

// deadlocked makes the request that closes a circle of n waits, of which it is
// the youngest, and checks what it is told.
func (s *suite) deadlocked(r *driver.Request, n int) {
	s.Helper()
	_, ticket, err := s.conn.Acquire(s.ctx, r)
	if ticket != nil {
		r.Ticket = ticket
		_, err = await(s.ctx, s.conn, r)
	}
	s.refused("the request that closed a circle", err, driver.ErrDeadlock)
	var d *driver.DeadlockError
	if !errors.As(err, &d) || len(d.Cycle) != n {
		s.Errorf("the error is %v; want a *DeadlockError with %d waits", err, n)
		return
	}
	mine := false
	for _, w := range d.Cycle {
		mine = mine || w.Holder == r.Holder
		if w.Owner == "" || w.Holder == "" || w.Name == "" {
			s.Errorf("a wait of the circle is %+v", w)
		}
	}
	if !mine {
		s.Errorf("%s is not in the circle %v", r.Holder, err)
	}
	if in := s.info(r.Name); in != nil {
		for _, w := range in.Waiters {
			if w.Holder == r.Holder {
				s.Errorf("%s still waits", r.Holder)
			}
		}
	}
}

// lacksDeadlock reports whether there is nothing to check: the capability is
// about help, so that there is nothing to refuse.
func (s *suite) lacksDeadlock() bool { return !s.caps.Deadlock }

// deadlockOfTwo: the younger of the two is told, the older gets its turn.
func deadlockOfTwo(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	s.take("A", "x")
	y, gy := s.take("B", "y")
	older := s.listen(s.part("a1", "A", "y"))
	s.deadlocked(s.part("b1", "B", "x"), 2)
	s.release(s.conn, ref(y, gy))
	if err := <-older; err != nil {
		s.Errorf("the older of the circle: %v", err)
	}
}

func deadlockOfThree(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	s.take("A", "x")
	s.take("B", "y")
	z, gz := s.take("C", "z")
	s.listen(s.part("a1", "A", "y"))
	second := s.listen(s.part("b1", "B", "z"))
	s.deadlocked(s.part("c1", "C", "x"), 3)
	s.release(s.conn, ref(z, gz))
	if err := <-second; err != nil {
		s.Errorf("one of the circle: %v", err)
	}
}

// deadlockOfHolders: a holder's own waits count without being named.
func deadlockOfHolders(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	s.take("A", "x")
	y, gy := s.take("B", "y")
	older := s.listen(s.part("A", "", "y"))
	s.deadlocked(s.part("B", "", "x"), 2)
	s.release(s.conn, ref(y, gy))
	if err := <-older; err != nil {
		s.Errorf("the older of the circle: %v", err)
	}
}

func deadlockThroughSeveral(s *suite) {
	if s.lacksDeadlock() || !s.caps.Multi {
		return
	}
	s.take("A", "x")
	s.take("B", "y")
	s.listen(s.part("b1", "B", "v", "x"))
	s.deadlocked(s.part("a1", "A", "w", "y"), 2)
	s.grant(s.conn, s.part("free", "", "w"))
}

// deadlockThroughLine: one that waits for several names is in the way of those
// behind it, also on a name that nobody holds.
func deadlockThroughLine(s *suite) {
	if s.lacksDeadlock() || !s.caps.Multi || !s.caps.FIFO {
		return
	}
	s.take("A", "x")
	s.take("B", "y")
	s.listen(s.part("m", "", "x", "z"))
	s.listen(s.part("b1", "B", "z"))
	s.deadlocked(s.part("a1", "A", "y"), 3)
}

func deadlockThroughShared(s *suite) {
	if s.lacksDeadlock() || !s.caps.Shared {
		return
	}
	for _, holder := range []string{"A", "B"} {
		r := s.part(holder, "", "x")
		r.Mode = driver.Shared
		s.grant(s.conn, r)
	}
	s.take("C", "y")
	s.listen(s.part("c1", "C", "x"))
	s.deadlocked(s.part("b1", "B", "y"), 2)
}

// deadlockByContext: nested calls of Do in opposite order: one of them is
// told, and when it has gone the other comes through.
func deadlockByContext(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	var both sync.WaitGroup // have their first lock
	both.Add(2)
	nested := func(l *lock.Locker, outer, inner string) error {
		return l.Do(s.ctx, outer, nil, func(ctx context.Context, _ *lock.Lease) error {
			both.Done()
			both.Wait()
			return l.Do(ctx, inner, nil, func(ctx context.Context, _ *lock.Lease) error { return ctx.Err() })
		})
	}
	a, b := s.locker(), s.locker()
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = nested(a, s.name+"/x", s.name+"/y") })
	wg.Go(func() { errs[1] = nested(b, s.name+"/y", s.name+"/x") })
	wg.Wait()
	if errs[0] == nil {
		errs[0], errs[1] = errs[1], errs[0]
	}
	s.refused("one of two in each other's way", errs[0], lock.ErrDeadlock)
	if errs[1] != nil {
		s.Errorf("the other of the two: %v", errs[1])
	}
}

// noFalseDeadlock: long waits without a circle go on waiting.
func noFalseDeadlock(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	s.take("A", "x")
	y, gy := s.take("B", "y")
	outcomes := []<-chan error{
		s.listen(s.part("a1", "A", "y")), // A waits for B
		s.listen(s.part("a2", "A", "y")), // twice
		s.listen(s.part("c1", "C", "x")), // C, who holds nothing, for A
		s.listen(s.part("c2", "C", "y")), // and for B
	}
	if s.caps.Permits {
		permit := func(holder, within string) *driver.Request {
			r := s.part(holder, within, "p")
			r.Permits = 2
			return r
		}
		s.grant(s.conn, permit("A", ""))
		s.grant(s.conn, permit("B", ""))
		s.line(s.conn, permit("a3", "A"))
		s.line(s.conn, permit("b3", "B"))
	}
	s.grant(s.conn, s.part("b1", "B", "free"))
	s.release(s.conn, ref(y, gy))
	if err := <-outcomes[0]; err != nil {
		s.Errorf("a wait without a circle: %v", err)
	}
	for _, out := range outcomes[1:] {
		select {
		case err := <-out:
			s.Errorf("a wait without a circle: %v", err)
		default:
		}
	}
}

// reentrance: a request under a lease for the same name could never be
// granted. It is refused at once, and leaves nothing.
func reentrance(s *suite) {
	if s.lacksDeadlock() {
		return
	}
	s.take("A", "x")
	for _, queue := range []bool{false, true} {
		r := s.part("a1", "A", "x")
		r.Queue = queue
		_, _, err := s.conn.Acquire(s.ctx, r)
		s.refused("a request for what is held around it", err, driver.ErrAlreadyHeld)
	}
	if in := s.info(s.name + "/x"); in == nil || in.Waiting != 0 {
		s.Errorf("List says %+v; want no waiter", in)
	}
	l := s.locker()
	err := l.Do(s.ctx, s.name+"/y", nil, func(ctx context.Context, _ *lock.Lease) error {
		return l.Do(ctx, s.name+"/y", nil, func(context.Context, *lock.Lease) error { return nil })
	})
	s.refused("Do within Do on one name", err, lock.ErrAlreadyHeld)
}

func upgrade(s *suite) {
	if s.lacksDeadlock() || !s.caps.Shared {
		return
	}
	r := s.part("A", "", "x")
	r.Mode = driver.Shared
	g := s.grant(s.conn, r)
	_, _, err := s.conn.Acquire(s.ctx, s.part("a1", "A", "x"))
	s.refused("an exclusive request within a shared lease", err, driver.ErrAlreadyHeld)
	s.release(s.conn, ref(r, g))
	s.grant(s.conn, s.part("a1", "A", "x"))
}
