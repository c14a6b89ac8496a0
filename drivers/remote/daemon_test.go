package remote

import (
	"context"
	"net"
	"testing"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/server"
)

// daemon serves an engine on a loopback port until the test ends.
type daemon struct {
	store string // the engine's URL
	addr  string
	conf  func(*server.Config)
	stop  func(t testing.TB)
}

// startDaemon serves an engine in memory and returns the URL to reach it by.
// change may be nil.
func startDaemon(t testing.TB, change func(*server.Config)) string {
	t.Helper()
	var tls bool
	d := startOn(t, "mem://?min_ttl=50ms", func(c *server.Config) {
		if change != nil {
			change(c)
		}
		tls = c.TLS != nil
	})
	if tls {
		return "https://" + d.addr
	}
	return d.url()
}

// startOn serves the engine at a URL.
func startOn(t testing.TB, store string, change func(*server.Config)) *daemon {
	t.Helper()
	d := &daemon{store: store, addr: "127.0.0.1:0", conf: change}
	d.start(t)
	t.Cleanup(func() { d.stop(t) })
	return d
}

func (d *daemon) url() string { return "http://" + d.addr }

func (d *daemon) start(t testing.TB) {
	t.Helper()
	e, err := engine.Open(context.Background(), d.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{Locks: e.Locks(), Queues: e.Queues(), Version: "test"}
	if d.conf != nil {
		d.conf(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	d.addr = ln.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	d.stop = func(t testing.TB) {
		t.Helper()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	}
}

// restart stops the daemon and starts it again on the same port and store. One
// in memory comes back empty.
func (d *daemon) restart(t testing.TB) {
	t.Helper()
	d.stop(t)
	d.start(t)
}
