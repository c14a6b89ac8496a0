package migrate

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

const scheme = "migrate"

func init() { lock.Register(scheme, Open) }

// target is what a URL says.
type target struct {
	from, to string
	options  Options
}

// parseURL reads migrate://?from=URL&to=URL&tokens=old. A part of it may be a
// secret, so that errors do not repeat it.
func parseURL(raw string) (*target, error) {
	rest, ok := strings.CutPrefix(raw, scheme+"://?")
	if !ok {
		return nil, lease.Invalidf("url", "must be migrate://?from=URL&to=URL with both URLs escaped")
	}
	query, err := url.ParseQuery(rest)
	if err != nil {
		return nil, lease.Invalidf("url", "has a malformed query: escape the URLs in it")
	}
	t := &target{}
	for name, vs := range query {
		if len(vs) > 1 {
			return nil, lease.Invalidf(name, "must not be given twice")
		}
		switch v := vs[0]; name {
		case "from":
			t.from = v
		case "to":
			t.to = v
		case "tokens":
			t.options.Tokens = Tokens(v)
			if v == "" {
				return nil, lease.Invalidf(name, "must be %s or %s", TokensOld, TokensNew)
			}
		default:
			return nil, lease.Invalidf(name, "is not a parameter of migrate URLs; they have from, to and tokens: escape the & in the URLs as %%26")
		}
	}
	for name, u := range map[string]string{"from": t.from, "to": t.to} {
		inner, _, ok := strings.Cut(u, "://")
		switch {
		case !ok:
			return nil, lease.Invalidf(name, "must be a URL of locks")
		case inner == scheme:
			return nil, lease.Invalidf(name, "must not be a migrate URL again")
		}
	}
	if t.from == t.to {
		return nil, lease.Invalidf("to", "must be another backend than from")
	}
	return t, nil
}

// URL returns the URL that moves from one to another.
func URL(from, to string, tokens Tokens) string {
	q := url.Values{"from": {from}, "to": {to}}
	if tokens != "" {
		q.Set("tokens", string(tokens))
	}
	return scheme + "://?" + q.Encode()
}

// Open opens the locks at a URL, as package lock does; the package comment has
// its form.
func Open(ctx context.Context, raw string) (driver.Conn, error) {
	t, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	from, err := lock.OpenConn(ctx, t.from)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	to, err := lock.OpenConn(ctx, t.to)
	if err != nil {
		_ = from.Close()
		return nil, fmt.Errorf("to: %w", err)
	}
	c, err := New(ctx, from, to, &t.options)
	if err != nil {
		_ = from.Close()
		_ = to.Close()
		return nil, err
	}
	return c, nil
}
