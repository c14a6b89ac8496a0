package server

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// overflow is how many connections past the limit are still accepted, to be
// told so by a problem; beyond them a connection is closed at once.
const overflow = 64

// limitListener bounds the number of open connections.
type limitListener struct {
	net.Listener
	max   int64
	open  atomic.Int64
	gauge prometheus.Gauge
}

func newLimitListener(ln net.Listener, max int, gauge prometheus.Gauge) *limitListener {
	return &limitListener{Listener: ln, max: int64(max), gauge: gauge}
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		n := l.open.Add(1)
		if n > l.max+overflow {
			l.open.Add(-1)
			c.Close()
			continue
		}
		l.gauge.Inc()
		return &limitedConn{Conn: c, listener: l, over: n > l.max}, nil
	}
}

type limitedConn struct {
	net.Conn
	listener *limitListener
	over     bool // is one too many
	once     sync.Once
}

func (c *limitedConn) Close() error {
	c.once.Do(func() {
		c.listener.open.Add(-1)
		c.listener.gauge.Dec()
	})
	return c.Conn.Close()
}

type overKey struct{}

// connKey is where the requests of a connection find it.
type connKey struct{}

// withConn lends requests their connection, and marks those of one that is one
// too many.
func withConn(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, connKey{}, c)
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	if l, ok := c.(*limitedConn); ok && l.over {
		return context.WithValue(ctx, overKey{}, true)
	}
	return ctx
}
