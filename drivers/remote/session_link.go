package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// SessionMode says whether a Client speaks over the multiplexed session.
type SessionMode string

// Modes of Options.Session.
const (
	// SessionAuto uses the session, and falls back to an HTTP request for
	// each call while the daemon, or a proxy on the way, refuses it.
	SessionAuto SessionMode = "auto"
	// SessionOn uses nothing else: where the session is refused calls fail.
	SessionOn SessionMode = "on"
	// SessionOff makes an HTTP request for each call.
	SessionOff SessionMode = "off"
)

// Pauses between attempts to connect. Each is between half and the whole of
// its step, so that clients of a daemon that comes back do not come at once.
const (
	minRedial = 20 * time.Millisecond
	maxRedial = 2 * time.Second
	// refusedFor is how long HTTP is used before the session is tried again
	// after a refusal.
	refusedFor = time.Minute
)

// link is a Client's way to its session, shared by all its Conns. It connects
// when a call needs the session and there is none, and as long as calls wait.
type link struct {
	c    *Client
	mode SessionMode

	mu      sync.Mutex
	users   int           // Conns that are open
	conn    *conn         // nil: there is none
	changed chan struct{} // closed when what follows changes
	waiting int           // calls
	dialing bool
	last    error     // of the last attempt
	refused time.Time // until when HTTP is used
	warned  bool
	work    sync.WaitGroup
	stop    context.CancelFunc // ends an attempt
}

func newLink(c *Client, mode SessionMode) *link {
	return &link{c: c, mode: mode, changed: make(chan struct{})}
}

// join counts a Conn. The session is closed when the last one leaves.
func (l *link) join() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
}

func (l *link) leave() {
	l.mu.Lock()
	l.users--
	if l.users > 0 {
		l.mu.Unlock()
		return
	}
	k := l.conn
	l.conn = nil // a Conn that comes now must not get one that is closing
	if l.stop != nil {
		l.stop()
	}
	l.mu.Unlock()
	if k != nil {
		k.close()
	}
	l.work.Wait()
}

// there returns the session if there is one now.
func (l *link) there() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mode == SessionOff {
		return nil
	}
	return l.conn
}

// get returns the session, waiting for it until ctx ends. It returns nil if
// the call is to go over HTTP.
func (l *link) get(ctx context.Context) (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting++
	defer func() { l.waiting-- }()
	for {
		switch {
		case l.mode == SessionOff:
			return nil, nil
		case l.conn != nil:
			return l.conn, nil
		case l.mode == SessionAuto && time.Now().Before(l.refused):
			return nil, nil
		}
		if !l.dialing {
			l.dialing = true
			dial, stop := context.WithCancel(context.Background())
			l.stop = stop
			l.work.Go(func() { l.dial(dial, stop) })
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		l.mu.Lock()
		var final *refusedError
		if l.conn == nil && errors.As(l.last, &final) && (l.mode == SessionOn || errors.Is(l.last, lease.ErrDenied)) {
			return nil, l.last
		}
		if ctx.Err() != nil && l.conn == nil {
			if l.last != nil {
				return nil, fmt.Errorf("%w (while the session was not connected: %w)", ctx.Err(), l.last)
			}
			return nil, fmt.Errorf("%w (while the session was not connected)", ctx.Err())
		}
	}
}

// dial tries until there is a session, it is refused, or nobody waits.
func (l *link) dial(ctx context.Context, stop context.CancelFunc) {
	defer stop()
	step := minRedial
	for {
		attempt, cancel := context.WithTimeout(ctx, l.c.timeout)
		k, err := dialSession(attempt, l.c, l.lost)
		cancel()
		if !l.dialed(k, err, ctx.Err() != nil) {
			return
		}
		pause := time.NewTimer(step/2 + rand.N(step/2))
		step = min(2*step, maxRedial)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// dialed takes note of an attempt, and says whether another is due. One that
// was stopped leaves that to those who have come since.
func (l *link) dialed(k *conn, err error, stopped bool) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var final *refusedError
	switch {
	case err == nil && l.users == 0:
		l.work.Go(k.close)
	case err == nil:
		l.conn, l.last = k, nil
		select {
		case <-k.closed: // before it was known here
			l.conn = nil
		default:
		}
	case errors.As(err, &final):
		l.last = err
		if !errors.Is(err, lease.ErrDenied) {
			l.refused = time.Now().Add(refusedFor)
			if l.mode == SessionAuto && !l.warned {
				l.warned = true
				l.c.logger.Warn("the session is refused; each call is an HTTP request instead", "url", l.c.base, "error", err)
			}
		}
	default:
		l.last = err
		again = l.waiting > 0 && l.users > 0 && !stopped
	}
	l.dialing = again
	close(l.changed)
	l.changed = make(chan struct{})
	return again
}

// lost forgets a session that has ended.
func (l *link) lost(k *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == k {
		l.conn = nil
	}
}

// refusedError: the session is refused, and will be when it is tried again.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// refusal says what an answer other than an upgrade means.
func refusal(resp *http.Response, err error) error {
	if resp == nil {
		return unwrapURL(err)
	}
	text := ""
	if resp.Body != nil {
		b, readErr := io.ReadAll(resp.Body) // the library has cut it to 1024 bytes
		if readErr == nil {
			text = string(b)
		}
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &refusedError{fmt.Errorf("%w: %s", lease.ErrDenied, resp.Status)}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("the daemon says %s: %.200s", resp.Status, text)
	}
	return &refusedError{fmt.Errorf("%w: the daemon, or something on the way, refuses the session with %s: %.200s", lease.ErrUnavailable, resp.Status, text)}
}

// header is what every request of a Client has.
func (c *Client) header() http.Header {
	h := http.Header{"User-Agent": {"lockkeeper-go"}}
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
	return h
}
