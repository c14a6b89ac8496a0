package lock

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// SKETCH: signatures that the other packages build against. Bodies and the
// final layout into files come with the package.

type (
	Token      = lease.Token
	Mode       = driver.Mode
	Info       = driver.Info
	GrantInfo  = driver.GrantInfo
	WaiterInfo = driver.WaiterInfo
	Caps       = driver.Caps
)

const (
	Exclusive = driver.Exclusive
	Shared    = driver.Shared

	DefaultTTL = 10 * time.Second
)

// Also re-export as lock.ErrX: ErrHeld, ErrAlreadyHeld from driver; ErrInvalid,
// ErrUnsupported, ErrNotFound, ErrConflict, ErrNotHeld, ErrLimit, ErrUnknown,
// ErrUnavailable, ErrNoSpace, ErrDenied, ErrClosed, ErrReleased, ErrExpired,
// ErrLost, ErrRevoked, ErrBroken from lease.

// Opener opens a Conn for a URL whose scheme it was registered for.
type Opener func(ctx context.Context, url string) (driver.Conn, error)

func Register(scheme string, open Opener)                   { panic("sketch") }
func Schemes() []string                                     { panic("sketch") }
func Open(ctx context.Context, url string) (*Locker, error) { panic("sketch") }
func New(c driver.Conn, cfg *Config) *Locker                { panic("sketch") }

// Config of a Locker; nil and zero values work.
type Config struct {
	Logger *slog.Logger
	Clock  lease.Clock // nil: the system's, which runs on through a suspend
}

type Locker struct{}

func (l *Locker) Caps() Caps { panic("sketch") }
func (l *Locker) Acquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	panic("sketch")
}
func (l *Locker) TryAcquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	panic("sketch")
}

// Do runs fn while holding name; fn's context is the lease's. fn's error is
// returned as it is; a lease lost while fn ran is an error too.
func (l *Locker) Do(ctx context.Context, name string, o *Options, fn func(ctx context.Context, l *Lease) error) error {
	panic("sketch")
}
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[*Info, error] { panic("sketch") }
func (l *Locker) Info(ctx context.Context, name string) (*Info, error)            { panic("sketch") } // ErrNotFound
func (l *Locker) Revoke(ctx context.Context, name string, t Token, o *RevokeOptions) error {
	panic("sketch")
}

// Close releases what is held, bounded in time, ends every lease with
// ErrClosed and closes the connection.
func (l *Locker) Close() error { panic("sketch") }

// Options of an acquire; nil and zero values work.
type Options struct {
	TTL       time.Duration // 0: DefaultTTL
	LockDelay time.Duration
	Mode      Mode
	Permits   int
	Holder    string // "": one made for this acquire. Name it to be able to Resume.
	Resume    bool   // take up the grant that Holder has from before a restart
	Meta      map[string]string
	NoRenew   bool // the lease ends after its TTL unless Renew is called
}

type RevokeOptions struct{ Break bool }

type Lease struct{}

func (l *Lease) Name() string                      { panic("sketch") }
func (l *Lease) Holder() string                    { panic("sketch") }
func (l *Lease) Token() Token                      { panic("sketch") }
func (l *Lease) Resumed() bool                     { panic("sketch") }
func (l *Lease) Context() context.Context          { panic("sketch") } // context.Cause says why it ended
func (l *Lease) Check() error                      { panic("sketch") } // nil, or why it ended; clock only, no I/O
func (l *Lease) Remaining() time.Duration          { panic("sketch") } // until the local deadline
func (l *Lease) Renew(ctx context.Context) error   { panic("sketch") } // now, by hand
func (l *Lease) Release(ctx context.Context) error { panic("sketch") } // ErrNotHeld, ErrUnknown
