package engine

import (
	"log/slog"
	"math"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// TTLs of locks.
const (
	// DefaultMinTTL is the shortest TTL of a lock unless Options or the URL
	// say otherwise: one stalled sync must not end a lease.
	DefaultMinTTL = time.Second
	// LeastMinTTL is the smallest value that MinTTL may have.
	LeastMinTTL = time.Millisecond
	// MaxTTL is the longest TTL of a lock.
	MaxTTL = 24 * time.Hour
)

// MaxTokenBase bounds Options.TokenBase. It leaves as many tokens above it.
const MaxTokenBase = math.MaxInt64

// Options of an engine; nil and zero values work.
type Options struct {
	// Logger gets what nobody can be told by an error. nil discards it.
	Logger *slog.Logger
	// MinTTL is the shortest TTL that a lock may ask for, LeastMinTTL to
	// MaxTTL; 0 means DefaultMinTTL. In a URL: min_ttl=200ms.
	MinTTL time.Duration
	// TokenBase lifts all tokens above it, 0 to MaxTokenBase: the largest
	// token of the store that this one follows. In a URL: token_base=N.
	TokenBase uint64
	// Clock decides about leases. nil means lease.SystemClock().
	Clock lease.Clock

	wall func() time.Time // of tests; nil: time.Now
}

// target is what a URL, together with Options, names.
type target struct {
	memory bool
	key    string // of the registry; "" for what is not shared
	dir    string
	params params
}

// params are what two opens of one URL must agree on.
type params struct {
	minTTL    time.Duration
	tokenBase uint64
}

// parseURL reads mem://, mem://NAME and file://DIR. DIR may be relative, and
// percent-encoded.
func parseURL(raw string, o *Options) (*target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "mem" && scheme != "file" {
		return nil, lease.Invalidf("url", "must be mem://, mem://NAME or file://DIR, is %q", raw)
	}
	if strings.Contains(rest, "#") {
		return nil, lease.Invalidf("url", "must not have a fragment; write %%23 for a # in a path")
	}
	rest, query, _ := strings.Cut(rest, "?")
	place, err := url.PathUnescape(rest)
	if err != nil || strings.ContainsRune(place, 0) {
		return nil, lease.Invalidf("url", "has a bad escape in %q", rest)
	}
	t := &target{memory: scheme == "mem"}
	switch {
	case t.memory && place != "":
		t.key = "mem://" + place
	case t.memory:
	case place == "":
		return nil, lease.Invalidf("url", "must name a directory: file://DIR")
	default:
		if t.dir, err = filepath.Abs(place); err != nil {
			return nil, lease.Invalidf("url", "names no directory: %v", err)
		}
		t.key = "file://" + t.dir
	}
	if t.params, err = parseParams(query, o); err != nil {
		return nil, err
	}
	return t, nil
}

func parseParams(query string, o *Options) (params, error) {
	p := params{minTTL: o.MinTTL, tokenBase: o.TokenBase}
	values, err := url.ParseQuery(query)
	if err != nil {
		return p, lease.Invalidf("url", "has a bad query: %v", err)
	}
	for name, vs := range values {
		if len(vs) != 1 {
			return p, lease.Invalidf(name, "must be given once, is given %d times", len(vs))
		}
		switch name {
		case "min_ttl":
			if p.minTTL, err = time.ParseDuration(vs[0]); err != nil || p.minTTL == 0 {
				return p, lease.Invalidf(name, "must be a duration such as 200ms, is %q", vs[0])
			}
		case "token_base":
			if p.tokenBase, err = strconv.ParseUint(vs[0], 10, 64); err != nil {
				return p, lease.Invalidf(name, "must be a decimal number from 0 to %d, is %q", int64(MaxTokenBase), vs[0])
			}
		default:
			return p, lease.Invalidf("url", "has the unknown parameter %q; known are min_ttl and token_base", name)
		}
	}
	if p.minTTL == 0 {
		p.minTTL = DefaultMinTTL
	}
	if p.minTTL < LeastMinTTL || p.minTTL > MaxTTL {
		return p, lease.Invalidf("min_ttl", "must be %v to %v, is %v", LeastMinTTL, MaxTTL, p.minTTL)
	}
	if p.tokenBase > MaxTokenBase {
		return p, lease.Invalidf("token_base", "must be a decimal number from 0 to %d, is %d", int64(MaxTokenBase), p.tokenBase)
	}
	return p, nil
}
