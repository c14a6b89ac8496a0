package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// hole is a TCP proxy that can swallow everything while its connections stay
// up: what a cut network looks like to both ends.
type hole struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	black chan struct{} // not nil: closed when it lets through again
	down  bool          // connections are cut at once
	conns []net.Conn

	stranded map[net.Conn]bool // let through nothing, though others do
	over     chan struct{}     // closed by close
	closing  sync.Once
}

func newHole(t testing.TB, target string) *hole {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{ln: ln, target: target, stranded: map[net.Conn]bool{}, over: make(chan struct{})}
	h.wg.Go(h.accept)
	t.Cleanup(h.close)
	return h
}

func (h *hole) url() string { return "http://" + h.ln.Addr().String() }

func (h *hole) accept() {
	for {
		near, err := h.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", h.target)
		if err != nil {
			near.Close()
			continue
		}
		h.mu.Lock()
		h.conns = append(h.conns, near, far)
		if h.down {
			near.Close()
			far.Close()
		}
		h.mu.Unlock()
		h.wg.Go(func() { h.pump(near, far) })
		h.wg.Go(func() { h.pump(far, near) })
	}
}

// pump carries bytes; those that arrive in the dark wait for the light.
func (h *hole) pump(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		h.mu.Lock()
		black := h.black
		if h.stranded[from] {
			black = h.over
		}
		h.mu.Unlock()
		if black != nil {
			<-black
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

func (h *hole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.black = make(chan struct{})
}

// cut ends all connections, and those that come.
func (h *hole) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
	for _, c := range h.conns {
		c.Close()
	}
}

// strand swallows what there is on the connections that are up, for good.
func (h *hole) strand() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		h.stranded[c] = true
	}
}

// drop ends the connections that are up.
func (h *hole) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}

func (h *hole) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = false
	if h.black != nil {
		close(h.black)
		h.black = nil
	}
}

func (h *hole) close() {
	h.closing.Do(func() {
		h.ln.Close()
		close(h.over)
	})
	h.heal()
	h.cut()
	h.wg.Wait()
}

// TestBlackHoleEndsHolderFirst cuts a holder of 100 locks off its daemon, and
// has each lock end for the holder before the daemon grants it to a rival.
func TestBlackHoleEndsHolderFirst(t *testing.T) {
	const names = 100
	url := startDaemon(t, nil)
	proxy := newHole(t, strings.TrimPrefix(url, "http://"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	holder, rival := openLocker(ctx, t, proxy.url()), openLocker(ctx, t, url)
	clock := lease.SystemClock()

	held := make([]*lock.Lease, names)
	ended := make([]lease.Instant, names)
	granted := make([]lease.Instant, names)
	var wg sync.WaitGroup
	for i := range names {
		var err error
		if held[i], err = holder.Acquire(ctx, fmt.Sprint("hole/", i), &lock.Options{TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-held[i].Context().Done()
			ended[i] = clock.Now()
		})
		wg.Go(func() {
			l, err := rival.Acquire(ctx, fmt.Sprint("hole/", i), &lock.Options{TTL: 10 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			granted[i] = clock.Now()
			if l.Token() <= held[i].Token() {
				t.Errorf("token %d after %d", l.Token(), held[i].Token())
			}
		})
	}
	for i := range names { // all rivals are in line
		for {
			info, err := rival.Info(ctx, fmt.Sprint("hole/", i))
			if err != nil {
				t.Fatal(err)
			}
			if info.Waiting == 1 {
				break
			}
		}
	}
	proxy.swallow()
	wg.Wait()
	var gaps []time.Duration
	for i := range names {
		gaps = append(gaps, granted[i].Sub(ended[i]))
		if cause := context.Cause(held[i].Context()); !errors.Is(cause, lease.ErrExpired) {
			t.Errorf("lease %d ended because of %v", i, cause)
		}
		if held[i].Check() == nil {
			t.Errorf("lease %d still checks", i)
		}
	}
	slices.Sort(gaps)
	t.Logf("grant of the rival less end of the holder: min %v, median %v, max %v", gaps[0], gaps[names/2], gaps[names-1])
	if gaps[0] <= 0 {
		t.Errorf("a rival was granted %v before the holder's end", -gaps[0])
	}
	proxy.heal()
	for i := range names {
		if err := held[i].Release(ctx); err == nil {
			t.Errorf("lease %d was released after its end", i)
		}
	}
}

func openLocker(ctx context.Context, t testing.TB, url string) *lock.Locker {
	t.Helper()
	l, err := lock.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}
