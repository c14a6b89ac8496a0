package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/lease"
)

// core is an open store with its machine and the two goroutines that drive
// them: the writer decides rounds, the syncer waits until they are durable
// and completes their calls.
type core struct {
	logger *slog.Logger
	clock  lease.Clock
	wall   func() time.Time
	params params
	memory bool
	store  *store.Store
	ident  string // see identify

	// The writer's.
	locks   *machine.Locks
	queues  *machine.Queues
	commits *machine.Commits
	backlog []*call       // swapped out of incoming, not decided yet
	next    int           // of backlog
	waiting call          // ring of the calls that wait in the machine
	crowded lease.Instant // until when it does not yield

	conns atomic.Uint64 // ids of connections

	unfinished *call // decided in part; nil: none

	rounds chan *round // from the writer to the syncer, in order

	mu       sync.Mutex
	incoming []*call
	refusal  error         // why no more calls are taken
	wake     chan struct{} // buffered: incoming or refusal has changed

	failOnce sync.Once
	failure  error         // set before failed is closed
	failed   chan struct{} // the store has failed
	stopped  chan struct{} // both goroutines have ended
	closing  sync.Once
	closeErr error
}

// roundsInFlight bounds the rounds that are applied and not yet durable: the
// one that the syncer waits for and the one that it gets next. A third could
// not be synced any sooner than what comes after it: to wait makes rounds larger,
// so that each call pays for less of one.
const roundsInFlight = 2

// startCore starts the engine on an open store, which it closes in the end.
func startCore(s *store.Store, p params, memory bool, o *Options) (*core, error) {
	c, err := newCore(s, p, memory, o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	go c.write()
	go c.sync()
	return c, nil
}

// newCore restores the machine from a store.
func newCore(s *store.Store, p params, memory bool, o *Options) (*core, error) {
	c := &core{
		logger:  o.Logger,
		clock:   o.Clock,
		wall:    o.wall,
		params:  p,
		memory:  memory,
		store:   s,
		ident:   identify(s),
		rounds:  make(chan *round, roundsInFlight-2), // the writer and the syncer hold one each
		wake:    make(chan struct{}, 1),
		failed:  make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	if c.clock == nil {
		c.clock = lease.SystemClock()
	}
	c.waiting.prev, c.waiting.next = &c.waiting, &c.waiting
	err := c.restore()
	return c, err
}

// now is the moment of a round.
func (c *core) now() machine.Time {
	return machine.Time{Mono: c.clock.Now(), Wall: c.wall().UnixNano()}
}

// submit queues a call for the writer, or says why it is not taken.
func (c *core) submit(k *call) error {
	c.mu.Lock()
	if c.refusal != nil {
		defer c.mu.Unlock()
		return c.refusal
	}
	c.incoming = append(c.incoming, k)
	first := len(c.incoming) == 1
	c.mu.Unlock()
	if first {
		c.nudge()
	}
	return nil
}

func (c *core) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// refuse makes the engine take no more calls. The first reason stays.
func (c *core) refuse(why error) {
	c.mu.Lock()
	if c.refusal == nil {
		c.refusal = why
	}
	c.mu.Unlock()
	c.nudge()
}

// refused says why no more calls are taken, if so.
func (c *core) refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal
}

// fail latches the store's failure.
func (c *core) fail(err error) {
	c.failOnce.Do(func() {
		c.failure = fmt.Errorf("the engine has stopped: %w: %w", lease.ErrUnavailable, err)
		c.refuse(c.failure) // first: who sees failed relies on it
		close(c.failed)
		c.nudge()
		c.logger.Error("the store has failed; the engine has stopped", "error", err)
	})
}

// err returns why the engine has failed, nil if it has not.
func (c *core) err() error {
	select {
	case <-c.failed:
		return c.failure
	default:
		return nil
	}
}

// close stops the engine: calls that are queued are still decided and made
// durable, those that wait in the machine get lease.ErrClosed. It returns
// when both goroutines have ended and the store is closed.
func (c *core) close() error {
	c.closing.Do(func() {
		c.refuse(lease.ErrClosed)
		<-c.stopped
		c.closeErr = c.store.Close()
	})
	return c.closeErr
}
