package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
)

// replyKinds says what an error reply means, by its first word. All of them
// come before a script has written anything.
var replyKinds = map[string]error{
	"NOAUTH": lease.ErrDenied, "WRONGPASS": lease.ErrDenied, "NOPERM": lease.ErrDenied,
	"AUTH":     lease.ErrDenied, // "ERR AUTH <password> called without any password configured"
	"READONLY": lease.ErrUnavailable, "LOADING": lease.ErrUnavailable, "MASTERDOWN": lease.ErrUnavailable,
	"CLUSTERDOWN": lease.ErrUnavailable, "TRYAGAIN": lease.ErrUnavailable, "BUSY": lease.ErrUnavailable,
	"NOREPLICAS": lease.ErrUnavailable, "MISCONF": lease.ErrUnavailable, "MOVED": lease.ErrUnavailable,
	"ASK": lease.ErrUnavailable, "NOSCRIPT": lease.ErrUnavailable, "UNKILLABLE": lease.ErrUnavailable,
	"OOM": lease.ErrNoSpace,
}

// isReply reports whether err is what the server answered. Anything else went
// wrong on the way.
func isReply(err error) bool {
	var r goredis.Error
	return errors.As(err, &r) && !errors.Is(err, goredis.Nil)
}

// hasCode reports whether err is an error reply with one of the codes.
func hasCode(err error, codes ...string) bool {
	if err == nil || !isReply(err) {
		return false
	}
	word := codeOf(err)
	for _, c := range codes {
		if word == c {
			return true
		}
	}
	return false
}

// codeOf returns the first word of an error reply. One that a script passed on
// may have ERR before it.
func codeOf(err error) string {
	word, rest, _ := strings.Cut(err.Error(), " ")
	if word == "ERR" {
		if second, _, _ := strings.Cut(rest, " "); replyKinds[second] != nil {
			return second
		}
	}
	if word == "ERR" && strings.Contains(rest, "running script") { // Redis 6: what a script met comes later
		for code := range replyKinds {
			if strings.Contains(rest, " -"+code+" ") {
				return code
			}
		}
	}
	return strings.TrimPrefix(word, "-")
}

// classify gives an error of go-redis the sentinel that says what became of
// the call. sure: the client sends it once, so that a connection that could
// not be had means that nothing was sent.
func classify(err error, sure bool) error {
	if err == nil {
		return nil
	}
	if isReply(err) {
		if kind := replyKinds[codeOf(err)]; kind != nil {
			return fmt.Errorf("%w: %w", kind, err)
		}
		switch text := err.Error(); {
		case strings.Contains(text, "max number of clients"):
			return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
		case strings.Contains(text, "invalid password"):
			return fmt.Errorf("%w: %w", lease.ErrDenied, err)
		}
		return err
	}
	if sure && neverSent(err) {
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", lease.ErrUnknown, err)
}

// neverSent reports whether no connection could be had.
func neverSent(err error) bool {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return true
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted), errors.Is(err, goredis.ErrClosed):
		return true
	}
	return strings.Contains(err.Error(), "all sentinels specified in configuration are unreachable")
}

// endedBefore says that the caller's ctx ended before a call was sent.
func endedBefore(ctx context.Context) error {
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, context.Cause(ctx))
}
