package remote

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/server"
)

// startDaemon serves an engine on a loopback port until the test ends, and
// returns its URL. change may be nil.
func startDaemon(t testing.TB, change func(*server.Config)) string {
	t.Helper()
	e, err := engine.Open(context.Background(), "mem://", &engine.Options{MinTTL: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{Locks: e.Locks(), Queues: e.Queues(), Version: "test"}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	})
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	return scheme + ln.Addr().String()
}
