package remote

import (
	"context"
	"net"
	"sync"
)

// corkBytes is how much of a large batch goes to the connection at a time. The
// library masks what it sends in a buffer of 4 KiB: to send each of them by
// itself costs a system call, and the daemon a wake-up.
const corkBytes = 64 << 10

var corkBuffers = sync.Pool{New: func() any { return new([corkBytes]byte) }}

// corked is a connection that gathers what is written to it while the cork is
// in. One goroutine at a time puts it in and takes it out; others may write
// meanwhile.
type corked struct {
	net.Conn

	mu  sync.Mutex
	buf *[corkBytes]byte // nil: the cork is out
	n   int              // bytes in it
}

// corkingDialer dials with d; its connections can be corked.
func corkingDialer(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &corked{Conn: c}, nil
	}
}

// corkOf finds the connection that can be corked, below TLS too; nil if a
// foreign transport has made it.
func corkOf(c net.Conn) *corked {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	k, _ := c.(*corked)
	return k
}

// Write implements net.Conn.
func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		return c.Conn.Write(p)
	}
	for left := p; len(left) > 0; {
		n := copy(c.buf[c.n:], left)
		left = left[n:]
		if c.n += n; c.n == len(c.buf) {
			if err := c.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush writes what there is. c.mu is held.
func (c *corked) flush() error {
	n := c.n
	c.n = 0
	if n == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf[:n])
	return err
}

func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = corkBuffers.Get().(*[corkBytes]byte) //nolint:forcetypeassert // the pool has nothing else
}

// uncork writes what was gathered.
func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	corkBuffers.Put(c.buf)
	c.buf = nil
	return err
}
