package remote_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/drivers/remote"
	"github.com/lockkeeper/lockkeeper/lock"
)

// Importing the package is enough to open locks and queues at a daemon.
func Example() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "http://127.0.0.1:7420?timeout=5s")
	if err != nil {
		log.Print(err) // no daemon runs there
		return
	}
	err = locks.Do(ctx, "nightly-report", nil, func(ctx context.Context, l *lock.Lease) error {
		fmt.Println("fencing token", l.Token())
		return nil
	})
	if err != nil {
		log.Print(err)
	}
	if err := locks.Close(); err != nil {
		log.Print(err)
	}
}

// A client with an HTTP transport of one's own, for proxies, certificates or
// tracing that no URL can describe.
func ExampleNew() {
	ctx := context.Background()
	client, err := remote.New(ctx, "https://lockkeeper.example:7420", &remote.Options{
		HTTP:    &http.Client{Transport: http.DefaultTransport},
		Token:   "from a vault",
		Timeout: 5 * time.Second,
	})
	if err != nil {
		log.Print(err)
		return
	}
	conn, err := client.Locks()
	if err != nil {
		log.Print(err)
		return
	}
	locks := lock.New(conn, nil)
	if err := locks.Close(); err != nil {
		log.Print(err)
	}
}
