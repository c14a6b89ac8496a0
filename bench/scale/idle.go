package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/drivers/remote"
	"github.com/lockkeeper/lockkeeper/lock"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/server"
)

const (
	acquirers  = 64               // goroutines
	scrape     = 15 * time.Second // as Prometheus does unless told otherwise
	longTTL    = 24 * time.Hour
	settleTime = 5 * time.Second // for compactions after the declarations
)

// idle measures what queues and locks cost that are there and not used.
func idle(ctx context.Context, c *config) error {
	embedded, served := *c, *c
	err := inScratch(&embedded, func() error { return idleProcess(ctx, &embedded, "idle", nil) })
	if err != nil {
		return err
	}
	c = &served
	return inScratch(c, func() error {
		return idleProcess(ctx, c, "daemon", func(url string) error { return declareIdle(ctx, c, url) })
	})
}

// ready is a process that has done what it had to.
type ready struct {
	URL  string
	Heap int64
}

func idleProcess(ctx context.Context, c *config, role string, prepare func(url string) error) error {
	p, err := start(ctx, role, c)
	if err != nil {
		return err
	}
	var r ready
	if err := p.next(&r); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(r.URL); err != nil {
			return errors.Join(err, p.kill())
		}
	}
	pause(ctx, min(settleTime, c.For))
	used, scrapes, err := watchIdle(ctx, c, p.cmd.Process.Pid, r.URL)
	if err != nil {
		return errors.Join(err, p.kill())
	}
	rss, err := rssOf(p.cmd.Process.Pid)
	if err != nil {
		return errors.Join(err, p.kill())
	}
	u, err := p.end()
	fmt.Printf("%s with %d queues and %d locks held, idle for %v, scraped %d times: %v of CPU, %.2f %% of a core; RSS %s, at most %s\n",
		role, c.Queues, c.Locks, c.For, scrapes, used, 100*used.Seconds()/c.For.Seconds(), mib(rss), mib(u.RSS))
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// watchIdle returns how much processor time a process takes during c.For.
func watchIdle(ctx context.Context, c *config, pid int, url string) (time.Duration, int, error) {
	before, err := cpuOf(pid)
	if err != nil {
		return 0, 0, err
	}
	end := time.Now().Add(c.For)
	scrapes := 0
	for left := time.Until(end); left > 0 && ctx.Err() == nil; left = time.Until(end) {
		pause(ctx, min(left, scrape))
		if url != "" {
			if err := get(ctx, url+"/metrics"); err != nil {
				return 0, 0, err
			}
			scrapes++
		}
	}
	after, err := cpuOf(pid)
	return after - before, scrapes, err
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// idleQueues and idleLocks make what is to be idle.
func idleQueues(ctx context.Context, q queuedriver.Conn, n int) error {
	qs := make([]queuedriver.Queue, n)
	for i := range qs {
		qs[i] = queuedriver.Queue{Name: "queue-" + strconv.Itoa(i)}
	}
	return declare(ctx, q, qs...)
}

func idleLocks(ctx context.Context, l lockdriver.Conn, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	for from := range acquirers {
		g.Go(func() error {
			for i := from; i < n; i += acquirers {
				r := &lockdriver.Request{Name: "lock-" + strconv.Itoa(i), Holder: "holder", ID: strconv.Itoa(i), TTL: longTTL}
				if _, _, err := l.Acquire(ctx, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func idleRole(ctx context.Context, c *config, report func(any) error) error {
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return err
	}
	if err := errors.Join(idleQueues(ctx, s.q, c.Queues), idleLocks(ctx, s.Locks(), c.Locks)); err != nil {
		return err
	}
	if err := report(ready{}); err != nil {
		return err
	}
	untilEnd(ctx)
	return s.Close()
}

// declareIdle does the same through a daemon.
func declareIdle(ctx context.Context, c *config, url string) error {
	client, err := remote.Open(ctx, url)
	if err != nil {
		return err
	}
	q, err1 := client.Queues()
	l, err2 := client.Locks()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return errors.Join(idleQueues(ctx, q, c.Queues), idleLocks(ctx, l, c.Locks), q.Close(), l.Close())
}

// daemonRole is the daemon, as `lockkeeper serve` has it.
func daemonRole(ctx context.Context, c *config, report func(any) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := openStore(ctx, c.Dir)
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{Locks: s.Locks(), Queues: s.q})
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	if err := report(ready{URL: "http://" + ln.Addr().String()}); err != nil {
		return err
	}
	untilEnd(ctx)
	cancel()
	return errors.Join(<-served, s.Close())
}

// leases measures many leases of one client that are renewed, on the engine
// and through the daemon.
func leases(ctx context.Context, c *config) error {
	embedded, served := *c, *c
	err := inScratch(&embedded, func() error { return leasesProcess(ctx, &embedded, nil) })
	if err != nil {
		return err
	}
	c = &served
	return inScratch(c, func() error {
		d, err := start(ctx, "daemon", c)
		if err != nil {
			return err
		}
		var r ready
		if err := d.next(&r); err != nil {
			return err
		}
		through := *c
		through.URL = r.URL
		if err := leasesProcess(ctx, &through, d); err != nil {
			return errors.Join(err, d.kill())
		}
		u, err := d.end()
		fmt.Printf("the daemon: peak RSS %s\n", mib(u.RSS))
		return err
	})
}

// acquired is what acquiring the leases took.
type acquired struct{ Rate float64 }

// heldLeases is what became of them.
type heldLeases struct{ Lost int }

func leasesProcess(ctx context.Context, c *config, daemon *process) error {
	p, err := start(ctx, "leases", c)
	if err != nil {
		return err
	}
	var a acquired
	if err := p.next(&a); err != nil {
		return err
	}
	pids := []int{p.cmd.Process.Pid}
	if daemon != nil {
		pids = append(pids, daemon.cmd.Process.Pid)
	}
	before := make([]time.Duration, len(pids))
	for i, pid := range pids {
		if before[i], err = cpuOf(pid); err != nil {
			return err
		}
	}
	pause(ctx, c.For)
	fmt.Printf("%d leases of %v, acquired at %.0f/s by %d goroutines, held for %v", c.N, c.TTL, a.Rate, acquirers, c.For)
	for i, pid := range pids {
		after, err1 := cpuOf(pid)
		rss, err2 := rssOf(pid)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		side := []string{"client", "daemon"}[i]
		if daemon == nil {
			side = "client and engine in one process"
		}
		fmt.Printf("; %s: %.2f %% of a core, RSS %s", side, 100*(after-before[i]).Seconds()/c.For.Seconds(), mib(rss))
	}
	if err := p.in.Close(); err != nil {
		return err
	}
	var h heldLeases
	if err := p.next(&h); err != nil {
		return err
	}
	u, err := p.end()
	fmt.Printf("; lost %d; peak RSS %s\n", h.Lost, mib(u.RSS))
	if h.Lost > 0 {
		return fmt.Errorf("%d leases were lost", h.Lost)
	}
	return err
}

func leasesRole(ctx context.Context, c *config, report func(any) error) (err error) {
	url := c.URL
	if url == "" {
		url = "file://" + c.Dir + "/store"
	}
	l, err := lock.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	held := make([]*lock.Lease, c.N)
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for from := range acquirers {
		g.Go(func() error {
			for i := from; i < c.N; i += acquirers {
				var err error
				if held[i], err = l.Acquire(gctx, "lock-"+strconv.Itoa(i), &lock.Options{TTL: c.TTL}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := report(acquired{Rate: rate(c.N, time.Since(began))}); err != nil {
		return err
	}
	untilEnd(ctx)
	var h heldLeases
	for _, le := range held {
		if le.Check() != nil {
			h.Lost++
		}
	}
	return report(h)
}
