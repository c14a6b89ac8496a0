package lock_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
)

func wantHeld(t *testing.T, b *fake, names ...string) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		if holder, _ := b.state(name); (holder != "") != slices.Contains(names, name) {
			t.Errorf("%s is held by %q, want that of %q", name, holder, names)
		}
	}
}

// A lease that is released by itself is out of the set, and the others go on;
// the last one ends the set.
func TestReleaseOutOfSet(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		set, err := l.AcquireAll(t.Context(), []string{"b", "a", "c"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx := set.Context()
		if err := set.Leases()[0].Release(ctx); err != nil {
			t.Errorf("Release of one: %v", err)
		}
		set.Leases()[1].Committing()(true, false)
		<-time.After(time.Minute)
		if set.Check() != nil || ctx.Err() != nil || set.Remaining() == 0 {
			t.Errorf("with one left: %v, %v, remaining %v", set.Check(), context.Cause(ctx), set.Remaining())
		}
		wantHeld(t, b, "c") // b was renewed no more
		if err := set.Leases()[2].Release(ctx); err != nil {
			t.Errorf("Release of the last: %v", err)
		}
		wantErr(t, "Check", set.Check(), lock.ErrReleased)
		wantErr(t, "cause", context.Cause(ctx), lock.ErrReleased)
		if set.Remaining() != 0 {
			t.Errorf("remaining %v", set.Remaining())
		}
		if err := set.Release(t.Context()); err != nil {
			t.Errorf("Release of a set of which nothing is left: %v", err)
		}
	})
}

// DoAll gives back what its function has not.
func TestDoAllAfterReleaseOfOne(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		err := l.DoAll(t.Context(), []string{"a", "b", "c"}, nil, func(ctx context.Context, s *lock.LeaseSet) error {
			err := s.Leases()[1].Release(ctx)
			wantHeld(t, b, "a", "c")
			if ctx.Err() != nil {
				t.Errorf("the function's context ended: %v", context.Cause(ctx))
			}
			return err
		})
		if err != nil {
			t.Errorf("DoAll: %v", err)
		}
		wantHeld(t, b)
	})
}

// The context of a set is good for its release, though it ends with it.
func TestReleaseSetWithItsContext(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		set, err := l.AcquireAll(t.Context(), []string{"a", "b"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.on("release", away)
		if err := set.Release(set.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		wantHeld(t, b)
		wantErr(t, "cause", context.Cause(set.Context()), lock.ErrReleased)
		wantErr(t, "second Release", set.Release(t.Context()), lock.ErrNotHeld, lock.ErrReleased)
	})
}

// A set ends with the first lease that is lost, and gives back the others.
func TestSetLosesOne(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		set, err := l.AcquireAll(t.Context(), []string{"a", "b"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx := set.Context()
		b.mu.Lock()
		delete(b.held, "b")
		b.mu.Unlock()
		<-ctx.Done()
		wantErr(t, "cause", context.Cause(ctx), lock.ErrLost)
		wantErr(t, "Check", set.Check(), lock.ErrLost)
		wantHeld(t, b, "a")
		wantErr(t, "Release", set.Release(t.Context()), lock.ErrNotHeld, lock.ErrLost)
		wantHeld(t, b)
	})
}
