package lock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// AcquireAll waits until it can have all of the names and returns their
// leases; until then it has none of them. The order of the names does not
// matter, and one that is there twice counts once: callers that ask for
// overlapping sets cannot wait for each other in a circle. What is said of
// Acquire holds for the rest. More than one name needs Caps.Multi.
func (l *Locker) AcquireAll(ctx context.Context, names []string, o *Options) (*LeaseSet, error) {
	set, err := l.acquireAll(ctx, names, o, true)
	return set, wrap("acquire locks", strings.Join(names, ", "), err)
}

// TryAcquireAll returns the leases if all of the names are free, and ErrHeld
// otherwise, see TryAcquire.
func (l *Locker) TryAcquireAll(ctx context.Context, names []string, o *Options) (*LeaseSet, error) {
	set, err := l.acquireAll(ctx, names, o, false)
	return set, wrap("try to acquire locks", strings.Join(names, ", "), err)
}

func (l *Locker) acquireAll(ctx context.Context, names []string, o *Options, queue bool) (*LeaseSet, error) {
	if len(names) == 0 {
		return nil, lease.Invalidf("names", "must be 1 to %d, are none", driver.MaxNames)
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(names)))
	_, set, err := l.acquire(ctx, demand{name: sorted[0], more: sorted[1:], set: true, queue: queue}, o)
	return set, err
}

// LeaseSet is several locks that were acquired at once and are held together.
// Each has a lease and a token of its own. All methods may be called
// concurrently.
type LeaseSet struct {
	locker *Locker
	leases []*Lease
	around holding
	given  atomic.Bool

	mu  sync.Mutex
	ctx context.Context // nil until somebody asks for it
	end context.CancelCauseFunc
}

func newLeaseSet(ctx context.Context, g *granted) *LeaseSet {
	s := &LeaseSet{
		locker: g.l, leases: make([]*Lease, g.r.Names()),
		around: holding{Context: ctx, holder: g.r.Holder, outer: g.around},
	}
	for i := range s.leases {
		s.leases[i] = &Lease{locker: g.l, set: s, resumed: g.grant.Resumed}
		g.hold(&s.around, s.leases[i], i)
	}
	return s
}

// Leases returns the leases in byte order of their names. Releasing one of
// them, by hand or by a commit, takes it out of the set; the set ends with the
// last one.
func (s *LeaseSet) Leases() []*Lease { return slices.Clone(s.leases) }

// Names returns the names in byte order.
func (s *LeaseSet) Names() []string {
	names := make([]string, len(s.leases))
	for i, le := range s.leases {
		names[i] = le.Name()
	}
	return names
}

// Holder returns the holder's id, the same for all.
func (s *LeaseSet) Holder() string { return s.leases[0].Holder() }

// Token returns the fencing token for a name of the set, 0 for another name.
func (s *LeaseSet) Token(name string) Token {
	for _, le := range s.leases {
		if le.Name() == name {
			return le.Token()
		}
	}
	return 0
}

// Tokens returns the fencing token for each name.
func (s *LeaseSet) Tokens() map[string]Token {
	tokens := make(map[string]Token, len(s.leases))
	for _, le := range s.leases {
		tokens[le.Name()] = le.Token()
	}
	return tokens
}

// Context ends, with its cause, when the first of the leases is lost, or when
// all of them are released.
func (s *LeaseSet) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.end = context.WithCancelCause(context.WithoutCancel(&s.around))
		for _, le := range s.leases {
			context.AfterFunc(le.Context(), s.settle)
		}
	}
	return s.ctx
}

// settle ends the context if the set has ended.
func (s *LeaseSet) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		return
	}
	if err := s.Check(); err != nil {
		s.end(err)
	}
}

// Check returns nil while all of the leases are held that were not released,
// and otherwise why one of them ended, see Lease.Check.
func (s *LeaseSet) Check() error {
	err := ErrReleased
	for _, le := range s.leases {
		switch why := le.Check(); {
		case why == nil:
			err = nil
		case !errors.Is(why, ErrReleased):
			return why
		}
	}
	if err == nil && s.given.Load() {
		return ErrReleased
	}
	return err
}

// Remaining returns the time to the first of the local deadlines, 0 once the
// set has ended.
func (s *LeaseSet) Remaining() time.Duration {
	if s.Check() != nil {
		return 0
	}
	least := time.Duration(math.MaxInt64)
	for _, le := range s.leases {
		if !errors.Is(le.Check(), ErrReleased) {
			least = min(least, le.Remaining())
		}
	}
	return least
}

// Release ends all of the leases at once and gives the locks back, see
// Lease.Release. The error matches ErrNotHeld, and the cause, if one of them
// had ended before.
func (s *LeaseSet) Release(ctx context.Context) error {
	return wrap("release locks", strings.Join(s.Names(), ", "), s.release(ctx))
}

func (s *LeaseSet) release(ctx context.Context) error {
	live := ctx.Err() == nil
	if !s.given.CompareAndSwap(false, true) {
		return notHeldFor(ErrReleased)
	}
	refs, lost := s.endAll()
	s.settle()
	ctx, done := afterRelease(ctx, live)
	defer done()
	ctx, leave, err := s.locker.enter(ctx)
	if err != nil {
		return notHeldFor(ErrClosed) // Close released them
	}
	defer leave()
	err = s.locker.giveBack(ctx, refs)
	if lost != nil {
		err = errors.Join(notHeldFor(lost), err)
	}
	return err
}

// endAll ends the leases. It returns those to be given back, and why one that
// was not released by hand had ended before, if one had.
func (s *LeaseSet) endAll() (refs []driver.Ref, lost error) {
	for _, le := range s.leases {
		before := le.held.Check()
		if !le.held.End(ErrReleased) && before == nil {
			before = le.held.Check() // it ended in between
		}
		switch {
		case !le.given.CompareAndSwap(false, true): // by hand
		case before == nil:
			refs = append(refs, le.held.Ref())
		default:
			if lost == nil {
				lost = before
			}
			if !errors.Is(before, ErrLost) && !errors.Is(before, ErrBroken) {
				s.locker.releaseLater(le.held.Ref()) // the backend may hold it still
			}
		}
	}
	return refs, lost
}

// giveBack releases leases, again and again until ctx ends and then in the
// background.
func (l *Locker) giveBack(ctx context.Context, refs []driver.Ref) error {
	repeated := false
	for n := 0; len(refs) > 0 && ctx.Err() == nil; n++ {
		outcomes, err := l.conn.Release(ctx, refs)
		if err == nil && len(outcomes) != len(refs) {
			err = fmt.Errorf("release of %d leases got %d outcomes: %w", len(refs), len(outcomes), ErrUnknown)
		}
		switch {
		case err == nil:
			return notHeld(outcomes, repeated)
		case ctx.Err() == nil && !transient(err):
			return err
		}
		repeated = repeated || !errors.Is(err, ErrUnavailable)
		if !backoff(ctx, n) {
			break
		}
	}
	if len(refs) == 0 {
		return nil
	}
	for _, ref := range refs {
		l.releaseLater(ref)
	}
	return fmt.Errorf("%w: %w; released in the background", ErrUnknown, ended(ctx))
}

// notHeld returns the first error of a release; that something was not held
// is none if an earlier release, of unknown outcome, may have done it.
func notHeld(outcomes []driver.Outcome, repeated bool) error {
	for _, o := range outcomes {
		if o.Err != nil && !(repeated && errors.Is(o.Err, ErrNotHeld)) {
			return o.Err
		}
	}
	return nil
}
