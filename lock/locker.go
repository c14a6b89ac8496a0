package lock

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// closeTime bounds how long Close gives the backend to take back what is held.
const closeTime = 5 * time.Second

// Locker acquires locks over one connection. All methods may be called
// concurrently.
type Locker struct {
	conn   driver.Conn
	caps   Caps
	clock  lease.Clock
	logger *slog.Logger
	keeper *lease.Keeper[driver.Ref]
	undo   *undoer

	prefix  string // of the ids of this Locker: random
	counter atomic.Uint64

	mu       sync.Mutex
	closing  bool
	calls    sync.WaitGroup // under way
	entered  entered        // ring of them
	done     chan struct{}  // closed when Close is through
	closeErr error
}

// New returns a Locker over c, which it owns from now on: Close closes it.
func New(c driver.Conn, cfg *Config) *Locker {
	if cfg == nil {
		cfg = &Config{}
	}
	l := &Locker{
		conn: c, caps: c.Caps(), clock: cfg.Clock, logger: cfg.Logger,
		prefix: rand.Text() + "-",
		done:   make(chan struct{}),
	}
	if l.clock == nil {
		l.clock = lease.SystemClock()
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	l.entered.prev, l.entered.next = &l.entered, &l.entered
	l.undo = newUndoer(l.logger)
	l.keeper = lease.NewKeeper(lease.KeeperConfig[driver.Ref]{
		Renew: l.renew, Clock: l.clock, Logger: l.logger,
		MaxBatch: min(lease.DefaultMaxBatch, driver.MaxBatch),
	})
	return l
}

// Caps says what the backend has and assumes.
func (l *Locker) Caps() Caps { return l.caps }

// renew is what the Keeper calls.
func (l *Locker) renew(ctx context.Context, due []lease.Due[driver.Ref]) ([]lease.Renewed, error) {
	refs := make([]driver.Ref, len(due))
	for i, d := range due {
		refs[i] = d.Ref
		refs[i].TTL = d.TTL
	}
	outcomes, err := l.conn.Renew(ctx, refs)
	if err != nil {
		return nil, err
	}
	renewed := make([]lease.Renewed, len(outcomes))
	for i, o := range outcomes {
		renewed[i] = lease.Renewed{Err: o.Err, TTL: o.TTL}
	}
	return renewed, nil
}

// nextID returns an id that nobody else has.
func (l *Locker) nextID() string {
	return l.prefix + strconv.FormatUint(l.counter.Add(1), 10)
}

// enter registers a call, which Close waits for, and returns a context that
// ends with ctx and when Close begins. leave must be called.
func (l *Locker) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil, nil, ErrClosed
	}
	l.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	e := &entered{locker: l, cancel: cancel, prev: l.entered.prev, next: &l.entered}
	e.prev.next, e.next.prev = e, e
	return ctx, e.leave, nil
}

// entered is a call under way. The Locker knows them by itself: to have each
// hang on a context of its own costs several times as much.
type entered struct {
	locker     *Locker
	cancel     context.CancelCauseFunc
	prev, next *entered
}

func (e *entered) leave() {
	l := e.locker
	l.mu.Lock()
	e.prev.next, e.next.prev = e.next, e.prev
	l.mu.Unlock()
	e.cancel(context.Canceled)
	l.calls.Done()
}

// Close ends every lease with ErrClosed, releases them and what is left of
// unfinished requests, and closes the connection. Calls under way return
// ErrClosed. It takes a few seconds at most: a lease that cannot be released
// by then is left to run out. Close again waits for the first and returns the
// same.
func (l *Locker) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.done
		return l.closeErr
	}
	l.closing = true
	for e := l.entered.next; e != &l.entered; e = e.next {
		e.cancel(ErrClosed) // none can enter any more
	}
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	held := l.keeper.Close(ErrClosed)
	l.calls.Wait()
	for len(held) > 0 {
		n := min(len(held), driver.MaxBatch)
		if _, err := l.conn.Release(ctx, held[:n]); err != nil {
			l.logger.Warn("leases are left to run out: release at close failed", "leases", len(held), "err", err)
			break
		}
		held = held[n:]
	}
	l.undo.close(ctx)
	l.closeErr = wrap("close locks", "", l.conn.Close())
	close(l.done)
	return l.closeErr
}
