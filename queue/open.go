package queue

import (
	"context"

	"github.com/lockkeeper/lockkeeper/internal/schemes"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Opener opens a Conn for a URL whose scheme it was registered for.
type Opener func(ctx context.Context, url string) (driver.Conn, error)

var openers = new(schemes.Registry[Opener])

// Register makes a driver known by the scheme of its URLs ("mem", "https").
// Drivers call it when their package is initialized. It panics if open is nil
// or the scheme is taken: two drivers under one name are a mistake of the
// program.
func Register(scheme string, open Opener) {
	if open == nil {
		panic("queue: Register with a nil Opener for " + scheme)
	}
	openers.Add(scheme, open)
}

// Schemes returns the registered schemes, sorted.
func Schemes() []string { return openers.Names() }

// Open opens a Broker with the default Config. ctx bounds the opening only. A
// URL without a scheme, with one that no imported driver knows, or with an
// unknown parameter is ErrInvalid.
func Open(ctx context.Context, url string) (*Broker, error) {
	c, err := OpenConn(ctx, url)
	if err != nil {
		return nil, err
	}
	return New(c, nil), nil
}

// OpenConn opens the driver's connection alone, for those who pass it to New
// with a Config of their own, or who serve it to others.
func OpenConn(ctx context.Context, url string) (driver.Conn, error) {
	open, err := openers.Find(url)
	if err != nil {
		return nil, wrap("open queues", "", err)
	}
	c, err := open(ctx, url)
	if err != nil {
		return nil, wrap("open queues at "+lease.PublicURL(url), "", err)
	}
	return c, nil
}
