package drivertest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy that can swallow what goes to the server, what comes
// back, or both, while its connections stay up: what a cut network looks like
// to both ends. It can be slow, too.
type Proxy struct {
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	target string
	dark   [2]chan struct{} // by direction; not nil: closed when it lets through again
	late   time.Duration
	conns  map[net.Conn]net.Conn
}

// Directions.
const (
	ToServer = iota
	ToClient
)

// NewProxy starts a proxy that ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{ln: ln, target: target, conns: map[net.Conn]net.Conn{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr returns the address that clients connect to.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

func (p *Proxy) accept() {
	for {
		near, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		var d net.Dialer
		far, err := d.DialContext(context.Background(), "tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns[near] = far
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(far, near, ToServer) })
		p.wg.Go(func() { p.pump(near, far, ToClient) })
	}
}

// pump carries bytes; those that arrive in the dark wait for the light.
func (p *Proxy) pump(to, from net.Conn, direction int) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		dark, late := p.dark[direction], p.late
		p.mu.Unlock()
		if dark != nil {
			<-dark
		}
		if late > 0 {
			<-time.After(late)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Swallow makes a direction, or both, dark.
func (p *Proxy) Swallow(directions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		if p.dark[d] == nil {
			p.dark[d] = make(chan struct{})
		}
	}
}

// Heal lets both directions through again, and what was held back first.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, dark := range p.dark {
		if dark != nil {
			close(dark)
			p.dark[d] = nil
		}
	}
}

// Delay has everything arrive that much later, in both directions, in pieces of
// at most 32 KiB: a long way through a narrow pipe.
func (p *Proxy) Delay(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = late
}

// Point sends new connections elsewhere and closes those there are.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.Cut()
}

// Cut closes all connections, as a network does that comes back.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for near, far := range p.conns {
		near.Close()
		far.Close()
		delete(p.conns, near)
	}
}

func (p *Proxy) close() {
	p.ln.Close()
	p.Cut()
	p.Heal()
	p.wg.Wait()
}
