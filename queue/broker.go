package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// DefaultRetryFor is for how long a request that the backend certainly did
// not carry out is made again, unless Config says otherwise.
const DefaultRetryFor = 30 * time.Second

// Config of a Broker; nil and zero values work.
type Config struct {
	Logger *slog.Logger // nil: slog.Default()
	Clock  lease.Clock  // nil: the system's, which runs on through a suspend

	// RetryFor bounds how long a publish or a settlement that was
	// certainly not carried out is tried again, besides the caller's
	// context. 0 means DefaultRetryFor.
	RetryFor time.Duration
}

// Broker is a client of one backend. It holds the leases of all deliveries
// that it received and keeps them alive with one goroutine; another settles
// them in batches.
type Broker struct {
	conn     driver.Conn
	caps     Caps
	log      *slog.Logger
	clock    lease.Clock
	retryFor time.Duration
	keeper   *lease.Keeper[driver.Ref]
	settler  *settler

	closing chan struct{} // closed when Close begins
	once    sync.Once
	closed  chan struct{} // closed when Close is done
	err     error         // of Close

	mu    sync.Mutex
	parts map[part]struct{} // what Close must close first; nil once it has begun
}

// part is a Consumer or a Publisher.
type part interface{ Close() error }

// New makes a Broker over a connection, which it owns from then on.
func New(c driver.Conn, cfg *Config) *Broker {
	if cfg == nil {
		cfg = &Config{}
	}
	b := &Broker{
		conn:     c,
		caps:     c.Caps(),
		log:      cfg.Logger,
		clock:    cfg.Clock,
		retryFor: cfg.RetryFor,
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
		parts:    map[part]struct{}{},
	}
	if b.log == nil {
		b.log = slog.Default()
	}
	if b.clock == nil {
		b.clock = lease.SystemClock()
	}
	if b.retryFor <= 0 {
		b.retryFor = DefaultRetryFor
	}
	b.keeper = lease.NewKeeper(lease.KeeperConfig[driver.Ref]{
		Renew:    b.extend,
		Clock:    b.clock,
		Logger:   b.log,
		MaxBatch: settleBatch,
	})
	b.settler = newSettler(c)
	return b
}

// Caps says what the backend has and assumes.
func (b *Broker) Caps() Caps { return b.caps }

// Close closes the Broker's publishers, which flush, and its consumers, which
// hand back what nobody was given; ends the remaining deliveries with
// ErrClosed, to be delivered again when their leases have run out; and closes
// the connection. It is bounded in time: what cannot be done while the
// backend is away is given up, and reported.
func (b *Broker) Close() error {
	b.once.Do(func() {
		defer close(b.closed)
		b.mu.Lock()
		parts := b.parts
		b.parts = nil
		b.mu.Unlock()
		close(b.closing)

		errs := make([]error, len(parts)+1)
		var wg sync.WaitGroup
		for p := range parts {
			i := len(parts)
			delete(parts, p)
			wg.Go(func() { errs[i] = p.Close() })
		}
		wg.Wait()
		b.keeper.Close(ErrClosed)
		b.settler.close()
		errs[0] = b.conn.Close()
		b.err = wrap("close queue client", "", errors.Join(errs...))
	})
	<-b.closed
	return b.err
}

func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// adopt makes Close close p, or says that it is too late.
func (b *Broker) adopt(p part) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return ErrClosed
	}
	b.parts[p] = struct{}{}
	return nil
}

func (b *Broker) disown(p part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.parts, p)
}

// extend is how the keeper extends the deliveries that are due.
func (b *Broker) extend(ctx context.Context, due []lease.Due[driver.Ref]) ([]lease.Renewed, error) {
	ss := make([]driver.Settlement, len(due))
	for i, d := range due {
		ss[i] = driver.Settlement{Ref: d.Ref, Verb: driver.Extend, TTL: d.TTL}
	}
	outcomes, err := b.conn.Settle(ctx, ss)
	if err != nil {
		return nil, err
	}
	if len(outcomes) != len(due) {
		return nil, fmt.Errorf("%w: the driver returned %d outcomes for %d extensions", ErrUnknown, len(outcomes), len(due))
	}
	renewed := make([]lease.Renewed, len(due))
	for i, o := range outcomes {
		renewed[i] = lease.Renewed{Err: o.Err, TTL: o.TTL}
	}
	return renewed, nil
}

// newConsumerID makes the id of a consumer that was given none.
func newConsumerID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, says its documentation
	return "consumer-" + hex.EncodeToString(b[:])
}
