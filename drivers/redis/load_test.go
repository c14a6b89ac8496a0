package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// scripts returns how many scripts a server has run.
func scripts(ctx context.Context, t testing.TB, s *realserver.Server) int {
	t.Helper()
	for line := range strings.Lines(mustRedis(ctx, t, s, "INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			count, _, _ := strings.Cut(rest, ",")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// TestThousandWaiters: all are granted in order, and there is no herd. A grant
// costs three scripts: the acquire that queues, the one that is granted, and
// the release; besides, each waiter looks once in checkPeriod, and the second
// of the line twice. A few more come from the first two, who look when the
// lease that is before them may run out.
func TestThousandWaiters(t *testing.T) {
	const waiters = 1000
	s := realserver.StartRedis(t)
	ctx := bounded(t)
	url := "redis://" + s.Addr()
	conns := []driver.Conn{openConn(t, url), openConn(t, url), openConn(t, url)}
	first := &driver.Request{Name: "thousand", Holder: "first", TTL: time.Minute}
	g, _, err := conns[0].Acquire(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	before, start := scripts(ctx, t, s), time.Now()
	order := make(chan int, waiters)
	var wg sync.WaitGroup
	for i := range waiters {
		c := conns[i%len(conns)]
		r := &driver.Request{Name: "thousand", Holder: fmt.Sprint("w", i), TTL: time.Minute, Queue: true}
		_, ticket, err := c.Acquire(ctx, r)
		if err != nil || ticket == nil || ticket.Position != i+1 {
			t.Fatalf("waiter %d: ticket %+v, %v", i, ticket, err)
		}
		r.Ticket = ticket
		wg.Go(func() {
			var g *driver.Grant
			for g == nil {
				if _, err := c.Wait(ctx, r, r.Ticket); err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				var err error
				if g, r.Ticket, err = c.Acquire(ctx, r); err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
			}
			order <- i
			out, err := c.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}})
			if err != nil || out[0].Err != nil {
				t.Errorf("release by waiter %d: %v, %v", i, out, err)
			}
		})
	}
	if _, err := conns[0].Release(ctx, []driver.Ref{{Name: first.Name, Holder: first.Holder, Token: g.Token}}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	took, ran := time.Since(start), scripts(ctx, t, s)-before
	close(order)
	want := 0
	for i := range order {
		if i != want {
			t.Fatalf("grant %d went to waiter %d", want, i)
		}
		want++
	}
	if want != waiters {
		t.Fatalf("%d of %d were granted", want, waiters)
	}
	looks := int(took/checkPeriod) + 1
	t.Logf("%d grants in %v: %d scripts, %.2f a grant", waiters, took.Round(time.Millisecond), ran, float64(ran)/waiters)
	if most := waiters*3 + waiters*looks + 100; ran > most {
		t.Errorf("%d scripts for %d grants in %v; want at most %d", ran, waiters, took, most)
	}
}

// lazy is how long Redis may take to remove keys whose time is over: it looks
// at a few of them ten times a second.
const lazy = 15 * time.Second

// TestNothingIsLeft locks and releases 100,000 names; some time later the
// server has no key, and after Close no subscription and no connection.
func TestNothingIsLeft(t *testing.T) {
	const names, clients, keep = 100_000, 64, 2 * time.Second
	s := realserver.StartRedis(t)
	ctx := bounded(t)
	c := openURL(t, fmt.Sprintf("redis://%s?fence_keep=%v", s.Addr(), keep))
	work := make(chan int)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range work {
				r := &driver.Request{Name: fmt.Sprint("left/", i), Holder: "h", TTL: time.Minute, Queue: true}
				if i%100 == 0 { // some are cancelled instead
					_, _, err := c.Acquire(ctx, r)
					if err == nil {
						err = c.Cancel(ctx, r)
					}
					if err != nil {
						t.Error(err)
					}
					continue
				}
				g, _, err := c.Acquire(ctx, r)
				if err != nil {
					t.Error(err)
					continue
				}
				out, err := c.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}})
				if err != nil || out[0].Err != nil {
					t.Error(out, err)
				}
			}
		})
	}
	start := time.Now()
	for i := range names {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d names took %v, %s keys are there", names, time.Since(start).Round(time.Millisecond), mustRedis(ctx, t, s, "DBSIZE"))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	done := time.Now()
	// What was cancelled is remembered for cancelLife: do not wait for that.
	until(ctx, t, "only what was cancelled is left", func() bool {
		n, err := strconv.Atoi(mustRedis(ctx, t, s, "DBSIZE"))
		return err == nil && n <= 2*names/100
	})
	if took := time.Since(done); took > keep+lazy {
		t.Errorf("the keys were gone after %v; they are kept for %v", took, keep)
	}
	if left := mustRedis(ctx, t, s, "KEYS", DefaultPrefix+"{*}[hqlwfb]"); left != "" {
		t.Errorf("left: %s", left)
	}
	for _, key := range strings.Split(mustRedis(ctx, t, s, "KEYS", "*"), "\n") {
		if ttl, err := strconv.Atoi(mustRedis(ctx, t, s, "PTTL", key)); err != nil || ttl <= 0 || ttl > int(cancelLife.Milliseconds()) {
			t.Errorf("%s lives for another %d ms", key, ttl)
			break
		}
	}
	if channels := mustRedis(ctx, t, s, "PUBSUB", "CHANNELS"); channels != "" {
		t.Errorf("subscriptions are left: %s", channels)
	}
	until(ctx, t, "the client's connections are gone", func() bool {
		return strings.Count(mustRedis(ctx, t, s, "CLIENT", "LIST"), "id=") == 1
	})
}
