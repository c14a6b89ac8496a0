package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

const (
	// ownNames begins the names of this driver's own locks.
	ownNames = "lockkeeper/migrate/"
	// TokensName is the lock that is held from the moment on from which new
	// tokens are handed out. It is nobody's in particular.
	TokensName   = ownNames + "tokens"
	tokensHolder = "lockkeeper-migrate"
)

// How long the turn is remembered, and how often it is renewed by those who
// know of it.
const (
	turnTTL   = 24 * time.Hour
	turnAgain = time.Minute
	turnTime  = 30 * time.Second // for taking it
	turnPause = 20 * time.Millisecond
	turnTries = 50 // at a backend that refuses what others change at the same moment
)

// turn is the moment from which on the new backend's tokens are handed out. It
// is a lock and no setting, because replicas with both settings run beside
// each other while the second is rolled out, and must turn at one moment.
type turn struct {
	c    *conn
	on   driver.Conn // has TokensName
	caps driver.Caps // of on

	mu    sync.Mutex
	taken bool      // it has come: it never goes back
	last  time.Time // when it was last renewed from here
}

func (u *turn) begin(c *conn, old, next *driver.Caps) error {
	u.c, u.on, u.caps = c, c.new, *next
	if next.TTLPerConn {
		u.on, u.caps = c.old, *old
	}
	if u.caps.TTLPerConn {
		return fmt.Errorf("both backends end all leases with the session of their client, so that neither can remember the turn: %w", lease.ErrUnsupported)
	}
	return nil
}

// has reports whether it has come as far as this connection knows.
func (u *turn) has() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.taken
}

// come reports whether the turn has come. The caller holds the name on both
// backends, so that who is granted the name next asks later than this.
func (u *turn) come(ctx context.Context) (bool, error) {
	u.mu.Lock()
	taken, due := u.taken, u.taken && time.Since(u.last) > turnAgain
	if due {
		u.last = time.Now()
	}
	u.mu.Unlock()
	if taken {
		if due {
			u.c.start(u.again)
		}
		return true, nil
	}
	// To be granted it together with others means that nobody has it alone.
	// Reading it would do on a backend whose reads are never behind.
	r := u.c.own(TokensName, &u.caps)
	r.Mode = driver.Shared
	g, _, err := u.on.Acquire(ctx, r)
	switch {
	case errors.Is(err, driver.ErrHeld):
		u.mu.Lock()
		u.taken = true
		u.mu.Unlock()
		return true, nil
	case err != nil:
		return false, fmt.Errorf("ask whose tokens are handed out: %w", err)
	}
	// Should this fail, it ends by itself.
	_, _ = u.on.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}})
	return false, nil
}

// again keeps the turn from being forgotten.
func (u *turn) again() {
	ctx, cancel := context.WithTimeout(u.c.ctx, turnTime)
	defer cancel()
	_ = u.take(ctx) // the next grant after turnAgain tries again
}

// take lets the turn come, or makes sure that it has.
func (u *turn) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	r := &driver.Request{
		Name: TokensName, Holder: tokensHolder, ID: u.c.id, TTL: min(turnTTL, u.caps.MaxTTL),
		Queue: true, Resume: true,
	}
	for refusals := 0; ; {
		g, ticket, err := u.on.Acquire(ctx, r)
		switch {
		case g != nil:
			u.mu.Lock()
			u.taken, u.last = true, time.Now()
			u.mu.Unlock()
			return nil
		case errors.Is(err, lease.ErrUnavailable) && refusals < turnTries:
			refusals++
			if err := pause(ctx); err != nil {
				return err
			}
			continue
		case errors.Is(err, driver.ErrAlreadyHeld):
			// Another replica is about to take it, under the same name: it
			// will be there to resume, or free.
			r.Ticket = nil
			if err := pause(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		r.Ticket = ticket
		if _, err := u.on.Wait(ctx, r, ticket); err != nil && !errors.Is(err, driver.ErrAlreadyHeld) {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(turnPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
