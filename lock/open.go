package lock

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Opener opens a Conn for a URL whose scheme it was registered for.
type Opener func(ctx context.Context, url string) (driver.Conn, error)

var openers = struct {
	sync.Mutex
	byScheme map[string]Opener
}{byScheme: map[string]Opener{}}

// Register makes a driver known by the scheme of its URLs ("mem", "https").
// Drivers call it when their package is initialized. It panics if open is nil
// or the scheme is taken: two drivers under one name are a mistake of the
// program.
func Register(scheme string, open Opener) {
	openers.Lock()
	defer openers.Unlock()
	if open == nil {
		panic("lock: Register with a nil Opener for " + scheme)
	}
	if _, taken := openers.byScheme[scheme]; taken {
		panic("lock: Register called twice for " + scheme)
	}
	openers.byScheme[scheme] = open
}

// Schemes returns the registered schemes, sorted.
func Schemes() []string {
	openers.Lock()
	defer openers.Unlock()
	schemes := make([]string, 0, len(openers.byScheme))
	for s := range openers.byScheme {
		schemes = append(schemes, s)
	}
	slices.Sort(schemes)
	return schemes
}

// Open opens a Locker with the default Config. ctx bounds the opening only. A
// URL without a scheme, with one that no imported driver knows, or with an
// unknown parameter is ErrInvalid.
func Open(ctx context.Context, url string) (*Locker, error) {
	c, err := OpenConn(ctx, url)
	if err != nil {
		return nil, err
	}
	return New(c, nil), nil
}

// OpenConn opens the driver's connection alone, for those who pass it to New
// with a Config of their own, or who serve it to others.
func OpenConn(ctx context.Context, url string) (driver.Conn, error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok || scheme == "" {
		return nil, wrap("open locks", "", lease.Invalidf("url", "must begin with a scheme and ://, such as file:///var/lib/lockkeeper"))
	}
	openers.Lock()
	open := openers.byScheme[scheme]
	openers.Unlock()
	if open == nil {
		known := "none: import a driver's package"
		if s := Schemes(); len(s) > 0 {
			known = strings.Join(s, ", ")
		}
		return nil, wrap("open locks", "", lease.Invalidf("url", "has the unknown scheme %q (known: %s)", scheme, known))
	}
	c, err := open(ctx, url)
	if err != nil {
		return nil, wrap("open locks at "+lease.PublicURL(url), "", err)
	}
	return c, nil
}
