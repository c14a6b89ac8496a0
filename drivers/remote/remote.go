// Package remote is the driver for locks and queues on a lockkeeper daemon.
//
// It speaks over the multiplexed session that docs/wire.md describes: one
// connection for all calls of a Client, on which frames of both directions are
// gathered into batches and the daemon pushes grants and messages. Where that
// is refused, each call is an HTTP request with JSON.
//
// Importing it registers the schemes http and https with packages lock and
// queue:
//
//	lock.Open(ctx, "http://127.0.0.1:7420")
//	queue.Open(ctx, "https://lockkeeper.example:7420?token_file=/etc/lockkeeper/token")
//
// URL parameters:
//
//	token_file  file with a bearer token, the first line that is not empty or
//	            a comment; without it the environment's LOCKKEEPER_AUTH_TOKEN
//	ca_file     PEM certificates that an https daemon is checked against,
//	            instead of the system's
//	timeout     how long a call may take (10s); its waits are not counted, and
//	            what it sends has a second more for each 256 KiB
//	poll        how long one request of a long poll lasts at most (30s)
//	session     auto: one multiplexed connection for all calls, or HTTP
//	            requests where that is refused; on: only that; off: only HTTP
//
// A call is one attempt: nothing is repeated. If no request left this machine
// the error matches lease.ErrUnavailable; if one left and no answer came it
// matches lease.ErrUnknown. Errors that the daemon reports are those that its
// backend returned, by errors.Is.
package remote

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TokenEnv names the environment variable with the bearer token for URLs that
// name no token_file.
const TokenEnv = "LOCKKEEPER_AUTH_TOKEN"

// Defaults of Options.
const (
	DefaultTimeout = 10 * time.Second
	DefaultPoll    = 30 * time.Second
)

// minRate is how many bytes a second a call is given time for, on top of its
// timeout, for what it sends: as many as a daemon gives by default.
const minRate = 256 << 10

// Options of a Client; nil and zero values work.
type Options struct {
	HTTP    *http.Client  // nil: one of the Client's own, closed with it
	Token   string        // bearer token; "": none
	Timeout time.Duration // of a call, without its waits and what its length takes, see timeout above; 0: DefaultTimeout
	Poll    time.Duration // of one request of a long poll, up to wire's longest wait; 0: DefaultPoll
	Session SessionMode   // "": SessionAuto
	Logger  *slog.Logger  // told once that the session is refused; nil: slog.Default()
}

// Client reaches one daemon. Its methods may be called concurrently.
type Client struct {
	base    string // without a final slash
	http    *http.Client
	token   string
	timeout time.Duration
	poll    time.Duration
	logger  *slog.Logger
	caps    wire.Capabilities
	link    *link
}

// Open reaches the daemon at a URL with parameters, as package lock and
// package queue do.
func Open(ctx context.Context, rawURL string) (*Client, error) {
	base, o, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	return New(ctx, base, o)
}

// allowance is how long a call may take that sends n bytes.
func (c *Client) allowance(n int) time.Duration {
	return c.timeout + time.Duration(n)*time.Second/minRate
}

// New reaches the daemon at base, such as "http://127.0.0.1:7420", and asks
// what it can do. It fails if what answers is not a lockkeeper.
func New(ctx context.Context, base string, o *Options) (*Client, error) {
	if o == nil {
		o = &Options{}
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.User != nil {
		return nil, lease.Invalidf("url", "must be http://HOST:PORT or https://HOST:PORT")
	}
	c := &Client{base: strings.TrimSuffix(base, "/"), http: o.HTTP, token: o.Token, timeout: o.Timeout, poll: o.Poll}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if c.poll <= 0 {
		c.poll = DefaultPoll
	}
	c.poll = min(c.poll, wire.MaxWait)
	if c.http == nil {
		c.http = &http.Client{Transport: newTransport(nil), CheckRedirect: refuseRedirect}
	}
	mode := o.Session
	switch mode {
	case "":
		mode = SessionAuto
	case SessionAuto, SessionOn, SessionOff:
	default:
		return nil, lease.Invalidf("session", "must be auto, on or off, is %q", mode)
	}
	if c.logger = o.Logger; c.logger == nil {
		c.logger = slog.Default()
	}
	s := newCaller(c)
	defer s.close()
	if err := s.call(ctx, request{method: http.MethodGet, path: "/v1/capabilities", reads: true}, nil, &c.caps); err != nil {
		return nil, err
	}
	if c.caps.Service != wire.Service {
		return nil, fmt.Errorf("what answers at %s is not a lockkeeper: %w", c.base, lease.ErrUnavailable)
	}
	c.link = newLink(c, mode)
	return c, nil
}

// refuseRedirect: a daemon does not redirect, and a token must not follow.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Version returns the daemon's version.
func (c *Client) Version() string { return c.caps.Version }

// ServerTime returns the daemon's clock as it was when the Client was made.
func (c *Client) ServerTime() time.Time { return c.caps.Time }

// Locks returns a connection to the daemon's locks, or lease.ErrUnsupported.
// Closing it does not close others of the Client.
func (c *Client) Locks() (lockdriver.Conn, error) {
	if c.caps.Locks == nil {
		return nil, fmt.Errorf("the daemon at %s serves no locks: %w", c.base, lease.ErrUnsupported)
	}
	c.link.join()
	return &lockConn{caller: newCaller(c), caps: c.caps.Locks.Driver()}, nil
}

// Queues returns a connection to the daemon's queues, or lease.ErrUnsupported.
// Closing it does not close others of the Client.
func (c *Client) Queues() (queuedriver.Conn, error) {
	if c.caps.Queues == nil {
		return nil, fmt.Errorf("the daemon at %s serves no queues: %w", c.base, lease.ErrUnsupported)
	}
	c.link.join()
	caps := c.caps.Queues.Driver()
	// If no session can be had after all the daemon refuses it.
	caps.Exclusive = c.caps.Queues.ExclusiveSession && c.link.mode != SessionOff
	return &queueConn{caller: newCaller(c), caps: caps}, nil
}
