package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// BlackHole cuts holders off while their connections stay up.
type BlackHole struct {
	Addr    string                   // of the server
	URL     func(addr string) string // of the server behind an address
	Holders int                      // connections, each through a proxy of its own
	Names   int                      // that each of them holds
	TTL     time.Duration
}

// hole is what happened to one of the locks.
type hole struct {
	held           *lock.Lease
	ended, granted lease.Instant
}

// Run has each lock end for its holder before the server grants it to a rival.
// It logs how long before.
func (b BlackHole) Run(t *testing.T) {
	t.Helper()
	prefix, ctx, clock := Fresh(t), Bounded(t), lease.SystemClock()
	rival := OpenLocker(t, b.URL(b.Addr))
	holes := make([]hole, b.Holders*b.Names)
	proxies := make([]*Proxy, b.Holders)
	var wg sync.WaitGroup
	for i := range proxies {
		proxies[i] = NewProxy(t, b.Addr)
		holder := OpenLocker(t, b.URL(proxies[i].Addr()))
		for j := range b.Names {
			h, name := &holes[i*b.Names+j], fmt.Sprint(prefix, i, "/", j)
			var err error
			if h.held, err = holder.Acquire(ctx, name, &lock.Options{TTL: b.TTL}); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				<-h.held.Context().Done()
				h.ended = clock.Now()
			})
			wg.Go(func() {
				l, err := rival.Acquire(ctx, name, nil)
				if err != nil {
					t.Error(err)
					return
				}
				h.granted = clock.Now()
				if l.Token() <= h.held.Token() {
					t.Errorf("token %d after %d", l.Token(), h.held.Token())
				}
			})
		}
	}
	for i := range holes {
		Waiting(ctx, t, rival, holes[i].held.Name(), 1)
	}
	for _, p := range proxies {
		p.Swallow(ToServer, ToClient)
	}
	wg.Wait()
	report(t, holes)
	for _, p := range proxies {
		p.Heal()
	}
}

func report(t *testing.T, holes []hole) {
	t.Helper()
	var gaps []time.Duration
	for i := range holes {
		h := &holes[i]
		gaps = append(gaps, h.granted.Sub(h.ended))
		if cause := context.Cause(h.held.Context()); !errors.Is(cause, lease.ErrExpired) {
			t.Errorf("lease %d ended because of %v", i, cause)
		}
	}
	slices.Sort(gaps)
	n := len(gaps)
	t.Logf("grant of the rival less end of the holder, %d runs: min %v, p10 %v, median %v, p90 %v, max %v",
		n, gaps[0], gaps[n/10], gaps[n/2], gaps[n*9/10], gaps[n-1])
	if gaps[0] <= 0 {
		t.Errorf("a rival was granted %v before the holder's end", -gaps[0])
	}
}

// Lose makes a call of c, which is behind p, and loses the reply after the
// server has acted. happened says by another connection that it has.
func Lose(ctx context.Context, t *testing.T, p *Proxy, c driver.Conn, call func(context.Context) error, happened func() bool) {
	t.Helper()
	Until(ctx, t, "there is a connection", func() bool {
		_, err := c.List(ctx, &driver.ListRequest{Name: "n"})
		return err == nil
	})
	p.Swallow(ToClient)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	Until(ctx, t, "the server acts", happened)
	cancel()
	if err := <-done; !errors.Is(err, lease.ErrUnknown) {
		t.Errorf("a call whose reply is lost: %v; want %v", err, lease.ErrUnknown)
	}
	p.Cut()
	p.Heal()
}

// Failover kills what serves a name under load and has the waiters go on by
// themselves. Tokens never go back, whatever the failover lost.
type Failover struct {
	URL, Name string
	TTL       time.Duration
	Kill      func()
}

// Run runs it.
func (f Failover) Run(t *testing.T) {
	t.Helper()
	const clients, enough = 4, 100
	ctx := Bounded(t)
	var mu sync.Mutex
	var last lease.Token
	var grants, after int
	killed := false
	stop := make(chan struct{})
	turn := func(l *lock.Locker) error {
		le, err := l.Acquire(ctx, f.Name, &lock.Options{TTL: f.TTL})
		if err != nil {
			return err
		}
		mu.Lock()
		if le.Token() <= last {
			t.Errorf("token %d granted after %d", le.Token(), last)
		}
		last = le.Token()
		grants++
		if killed {
			after++
		}
		mu.Unlock()
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_ = le.Release(short) // it may be away; then it is released later
		return nil
	}
	var wg sync.WaitGroup
	for range clients {
		l := OpenLocker(t, f.URL)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := turn(l); err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
			}
		})
	}
	count := func(n *int) int { mu.Lock(); defer mu.Unlock(); return *n }
	Until(ctx, t, "grants are made", func() bool { return count(&grants) > enough })
	f.Kill()
	mu.Lock()
	killed = true
	mu.Unlock()
	start := time.Now()
	Until(ctx, t, "grants go on", func() bool { return count(&after) > 2*clients })
	t.Logf("grants went on within %v", time.Since(start).Round(time.Millisecond))
	Until(ctx, t, "grants go on", func() bool { return count(&after) > enough })
	close(stop)
	wg.Wait()
}
