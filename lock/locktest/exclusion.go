package locktest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var exclusionCases = []testCase{
	{"mutual_exclusion", mutualExclusion},
	{"try_held_leaves_no_trace", tryHeld},
	{"many_names_at_once", manyNames},
	{"stress", stress},
}

// mutualExclusion counts without an atomic increment under one lock.
func mutualExclusion(s *suite) {
	const clients, rounds = 8, 25
	var counter, inside atomic.Int64
	var last atomic.Uint64
	var wg sync.WaitGroup
	for range clients {
		l := s.locker()
		wg.Go(func() {
			for range rounds {
				err := l.Do(s.ctx, s.name, nil, func(_ context.Context, le *lock.Lease) error {
					if inside.Add(1) != 1 {
						s.Errorf("two holders at once")
					}
					if before := last.Swap(uint64(le.Token())); before >= uint64(le.Token()) {
						s.Errorf("token %d granted after %d", le.Token(), before)
					}
					count := counter.Load()
					if _, err := l.Info(s.ctx, s.name); err != nil { // lets others run
						s.Errorf("Info of the held lock: %v", err)
					}
					for range clients {
						runtime.Gosched()
					}
					counter.Store(count + 1)
					inside.Add(-1)
					return nil
				})
				if err != nil {
					s.Errorf("Do: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if counter.Load() != clients*rounds {
		s.Errorf("counted %d of %d", counter.Load(), clients*rounds)
	}
}

func tryHeld(s *suite) {
	r := s.request("first")
	g := s.grant(s.conn, r)
	for _, c := range []driver.Conn{s.conn, s.open()} {
		_, _, err := c.Acquire(s.ctx, s.request("second"))
		s.refused("Acquire of the held name without Queue", err, driver.ErrHeld)
	}
	if in := s.info(s.name); in == nil || in.Waiting != 0 || len(in.Grants) != 1 {
		s.Errorf("List says %+v after a refused try; want one grant and no waiter", in)
	}
	s.release(s.conn, ref(r, g))
	if in := s.info(s.name); in != nil {
		s.Errorf("List says %+v of a name that was released", *in)
	}
	_, err := s.locker().TryAcquire(s.ctx, s.name, nil)
	if err != nil {
		s.Errorf("TryAcquire of the free name: %v", err)
	}
}

// manyNames: names are independent of each other.
func manyNames(s *suite) {
	l := s.locker()
	tokens := make(map[lease.Token]bool)
	for _, suffix := range []string{"", "/", "/a", "/b", "//a", "/a/"} {
		le, err := l.TryAcquire(s.ctx, s.name+suffix, nil)
		if err != nil {
			s.Fatalf("TryAcquire of the free name with suffix %q: %v", suffix, err)
		}
		tokens[le.Token()] = true
	}
	if len(tokens) == 0 {
		s.Errorf("no tokens")
	}
}

// stress mixes all that clients do to a few names, with an overlap detector on
// each.
func stress(s *suite) {
	const clients, rounds, names = 6, 40, 3
	var inside [names]atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		l := s.locker()
		wg.Go(func() {
			for n := range rounds {
				at := (i + n) % names
				name := s.name + string(rune('a'+at))
				ctx, cancel := context.WithCancel(s.ctx)
				var le *lock.Lease
				var err error
				switch n % 4 {
				case 0:
					le, err = l.TryAcquire(ctx, name, nil)
				case 1:
					go cancel() // races with the grant
					fallthrough
				default:
					le, err = l.Acquire(ctx, name, nil)
				}
				if err == nil {
					if inside[at].Add(1) != 1 {
						s.Errorf("two holders of one name")
					}
					inside[at].Add(-1)
					err = le.Release(s.ctx)
				}
				cancel()
				if err != nil && !errors.Is(err, lock.ErrHeld) && !errors.Is(err, context.Canceled) {
					s.Errorf("client %d, round %d: %v", i, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for at := range names {
		name := s.name + string(rune('a'+at))
		s.until("nothing is left of "+name, func() bool { return s.info(name) == nil })
	}
}
