package zookeeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
)

// client is what is used of a *zk.Conn. Its calls take no context: they end
// when a reply comes or when the connection is lost.
type client interface {
	SessionID() int64
	Create(path string, data []byte, flags int32, acl []zk.ACL) (string, error)
	CreateContainer(path string, data []byte, flags int32, acl []zk.ACL) (string, error)
	Children(path string) ([]string, *zk.Stat, error)
	ChildrenW(path string) ([]string, *zk.Stat, <-chan zk.Event, error)
	Exists(path string) (bool, *zk.Stat, error)
	Get(path string) ([]byte, *zk.Stat, error)
	GetW(path string) ([]byte, *zk.Stat, <-chan zk.Event, error)
	Set(path string, data []byte, version int32) (*zk.Stat, error)
	Delete(path string, version int32) error
	Multi(ops ...any) ([]zk.MultiResponse, error)
	Sync(path string) (string, error)
	Close()
}

var _ client = (*zk.Conn)(nil)

// link makes the network connections of a client. The client keeps to itself
// which time-out the servers have granted to the session, and why it cannot
// connect; it waits very long for a server that accepts and says nothing, and
// believes whatever length a reply says that it has. The link sees to all that.
type link struct {
	timeout time.Duration // of the first exchange

	mu      sync.Mutex
	granted time.Duration // the session's time-out
	since   time.Time     // when that was granted last
	err     error         // of the last attempt
	cut     bool          // nothing is dialled any more
	wire    *wire         // the connection there is
}

// dial implements zk.Dialer.
func (l *link) dial(network, addr string, timeout time.Duration) (net.Conn, error) {
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	if cut {
		return nil, net.ErrClosed
	}
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(context.Background(), network, addr)
	if err != nil {
		l.failed(err)
		return nil, err
	}
	w := &wire{Conn: conn, link: l, until: time.Now().Add(l.timeout)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.wire = w
	return w, nil
}

func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *link) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// up returns for how long there has been a connection, or was.
func (l *link) up() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.since)
}

func (l *link) session() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted
}

// sever ends the connection and lets no other be made: the servers do not hear
// of the end of the session.
func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	if l.wire != nil {
		l.wire.Close()
	}
}

// firstReply is how much of the reply to the first request is read here:
// its length, the version of the protocol and the session's time-out.
const (
	firstReply    = 12
	maxFirstReply = 1 << 10 // bytes that it may have
)

// wire is one network connection.
type wire struct {
	net.Conn
	link  *link
	until time.Time // of the first exchange
	head  []byte    // of the first reply; whole: it is over
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	if len(w.head) < firstReply && (t.IsZero() || t.After(w.until)) {
		t = w.until
	}
	return w.Conn.SetReadDeadline(t)
}

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	missing := firstReply - len(w.head)
	if missing <= 0 {
		return n, err
	}
	w.head = append(w.head, b[:min(n, missing)]...)
	if len(w.head) == 0 && errors.Is(err, os.ErrDeadlineExceeded) { // it waits for more: that may be an HTTP server
		err = fmt.Errorf("what listens there gives no answer, as a ZooKeeper does: %w", err)
	}
	if len(w.head) >= 4 && binary.BigEndian.Uint32(w.head) > maxFirstReply {
		err = errors.New("what answers is not a ZooKeeper")
	}
	if err != nil {
		w.link.failed(err)
		return 0, err
	}
	if len(w.head) == firstReply {
		w.link.connected(time.Duration(binary.BigEndian.Uint32(w.head[8:])) * time.Millisecond)
	}
	return n, nil
}

func (l *link) connected(session time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if session > 0 { // else the session has expired
		l.granted, l.since = session, time.Now()
	}
	l.err = nil
}

// silent drops what the client logs: errors are returned.
type silent struct{}

func (silent) Printf(string, ...any) {}

// connectTime bounds one attempt to reach a server.
const connectTime = time.Second

// dial connects to one of the servers.
func dial(ctx context.Context, addrs []string, o *Options) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	l := &link{timeout: min(o.Timeout/2, max(connectTime, o.Session/3))}
	client, events, err := zk.Connect(addrs, o.Session, zk.WithDialer(l.dial), zk.WithLogger(silent{}), zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	if err := awaitSession(ctx, events, l); err != nil {
		l.sever()
		client.Close()
		return nil, err
	}
	if o.User != "" {
		if err := client.AddAuth("digest", []byte(o.User+":"+o.Password)); err != nil {
			client.Close()
			return nil, classify(err, false)
		}
	}
	granted := *o
	granted.Session = l.session()
	c, err := connect(ctx, client, l, &granted)
	if err != nil && c == nil {
		client.Close()
	}
	return c, err
}

// awaitSession waits until a server has granted a session.
func awaitSession(ctx context.Context, events <-chan zk.Event, l *link) error {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return lease.ErrClosed
			}
			if e.State == zk.StateHasSession {
				return nil
			}
		case <-ctx.Done():
			err := l.lastError()
			if err == nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("%w: connect: %w", lease.ErrUnavailable, err)
		}
	}
}
