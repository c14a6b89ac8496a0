package remote

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// weather is a TCP proxy whose connections are delayed, each on its own so
// that they overtake each other, held up for a while, and cut.
type weather struct {
	ln     net.Listener
	target string
	work   sync.WaitGroup

	conns, cuts, holds atomic.Int64

	mu   sync.Mutex
	open map[*passage]struct{}
	fair bool // no delays any more
}

// passage is one connection through the weather.
type passage struct {
	near, far net.Conn

	mu   sync.Mutex
	held chan struct{} // not nil: closed when it lets through again
}

func newWeather(t testing.TB, target string) *weather {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &weather{ln: ln, target: target, open: map[*passage]struct{}{}}
	w.work.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

func (w *weather) url() string { return "http://" + w.ln.Addr().String() + "?session=on" }

func (w *weather) accept() {
	for {
		near, err := w.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			near.Close()
			continue
		}
		p := &passage{near: near, far: far}
		w.conns.Add(1)
		w.mu.Lock()
		w.open[p] = struct{}{}
		w.mu.Unlock()
		w.work.Go(func() { w.pump(p, far, near) })
		w.work.Go(func() { w.pump(p, near, far) })
	}
}

func (w *weather) pump(p *passage, to, from net.Conn) {
	defer func() {
		p.near.Close()
		p.far.Close()
		w.mu.Lock()
		delete(w.open, p)
		w.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		held := p.held
		p.mu.Unlock()
		if held != nil {
			<-held
		}
		w.mu.Lock()
		fair := w.fair
		w.mu.Unlock()
		if !fair && rand.N(10) == 0 {
			<-time.After(rand.N(20 * time.Millisecond))
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

func (p *passage) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case held && p.held == nil:
		p.held = make(chan struct{})
	case !held && p.held != nil:
		close(p.held)
		p.held = nil
	}
}

// storm makes trouble for so long, and then lets all through.
func (w *weather) storm(length time.Duration) {
	end := time.After(length)
	for {
		select {
		case <-end:
			w.clear()
			return
		case <-time.After(rand.N(200 * time.Millisecond)):
		}
		p := w.any()
		switch {
		case p == nil:
		case rand.N(3) == 0:
			w.holds.Add(1)
			p.hold(true)
			w.work.Go(func() {
				<-time.After(rand.N(8 * time.Second)) // now and then longer than a session is patient
				p.hold(false)
			})
		default:
			w.cuts.Add(1)
			p.near.Close()
			if rand.N(2) == 0 {
				p.far.Close()
			}
		}
	}
}

func (w *weather) any() *passage {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.open { // in no order
		return p
	}
	return nil
}

// clear ends all trouble.
func (w *weather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fair = true
	for p := range w.open {
		p.hold(false)
	}
}

func (w *weather) close() {
	w.ln.Close()
	w.mu.Lock()
	for p := range w.open {
		p.hold(false)
		p.near.Close()
		p.far.Close()
	}
	w.mu.Unlock()
	w.work.Wait()
}
