package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// A lease that a commit releases ends as one that was released, though a
// renewal finds it gone before the outcome is known; and as lost if it was
// not the commit that ended it.
func TestCommitting(t *testing.T) {
	for name, released := range map[string]bool{"released": true, "not released": false} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, l *lock.Locker, b *fake) {
				le := acquire(t, l, nil)
				done := le.Committing()
				b.mu.Lock()
				clear(b.held)
				b.renew = lease.ErrNotHeld
				b.mu.Unlock()
				<-time.After(le.Remaining() / 2)
				if err := le.Check(); err != nil || len(b.made("renew")) == 0 {
					t.Fatalf("in doubt, after %d renewals: %v", len(b.made("renew")), err)
				}
				done(released, false)
				if !released {
					<-le.Context().Done()
					wantErr(t, "cause", context.Cause(le.Context()), lock.ErrLost)
					return
				}
				wantErr(t, "cause", context.Cause(le.Context()), lock.ErrReleased)
				wantErr(t, "Release after the commit", le.Release(t.Context()), lock.ErrNotHeld, lock.ErrReleased)
			})
		})
	}
}

// A repeat may have released an earlier lease of the name; this one is given
// back all the same.
func TestCommittingRepeated(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		le := acquire(t, l, nil)
		le.Committing()(true, true)
		wantErr(t, "cause", context.Cause(le.Context()), lock.ErrReleased)
		for len(b.made("release")) == 0 {
			<-time.After(time.Millisecond)
		}
		wantFree(t, b)
	})
}
