package rabbitmq

import (
	"net"
	"sync"
	"testing"
)

// proxy is a TCP proxy that can swallow what goes to the server, what comes
// back, or both, while its connections stay up: what a cut network looks like
// to both ends.
type proxy struct {
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	target string
	dark   [2]chan struct{} // by direction; not nil: closed when it lets through again
	conns  map[net.Conn]net.Conn
}

// Directions.
const (
	toServer = iota
	toClient
)

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, conns: map[net.Conn]net.Conn{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		near, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		far, err := net.Dial("tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns[near] = far
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(far, near, toServer) })
		p.wg.Go(func() { p.pump(near, far, toClient) })
	}
}

// pump carries bytes; those that arrive in the dark wait for the light.
func (p *proxy) pump(to, from net.Conn, direction int) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		dark := p.dark[direction]
		p.mu.Unlock()
		if dark != nil {
			<-dark
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

// swallow makes a direction, or both, dark.
func (p *proxy) swallow(directions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		if p.dark[d] == nil {
			p.dark[d] = make(chan struct{})
		}
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, dark := range p.dark {
		if dark != nil {
			close(dark)
			p.dark[d] = nil
		}
	}
}

// cut closes all connections, as a network does that comes back.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for near, far := range p.conns {
		near.Close()
		far.Close()
		delete(p.conns, near)
	}
}

func (p *proxy) close() {
	p.ln.Close()
	p.cut()
	p.heal()
	p.wg.Wait()
}
