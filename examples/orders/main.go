// Orders runs the services of package shop in one process, with a customer
// who places orders, some of them twice, and prints what became of them:
//
//	go run ./examples/orders
//	go run ./examples/orders --url http://127.0.0.1:7420
//
// In earnest each service would be a program of its own, in several replicas:
// only the URL is shared. `lockkeeper demo` runs them so, and kills them.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	_ "github.com/lockkeeper/lockkeeper/drivers/remote" // http:// and https://
	_ "github.com/lockkeeper/lockkeeper/engine"         // mem:// and file://
	"github.com/lockkeeper/lockkeeper/examples/orders/shop"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

func main() {
	url := flag.String("url", "mem://orders", "where locks and queues are")
	count := flag.Int("orders", 30, "how many orders are placed")
	flag.Parse()
	if err := run(context.Background(), *url, *count, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// timeout bounds the whole run.
const timeout = time.Minute

func run(ctx context.Context, url string, count int, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	locks, err := lock.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locks.Close()) }()
	queues, err := queue.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, queues.Close()) }()
	if err := queues.Declare(ctx, shop.Topology()); err != nil {
		return err
	}

	// There is less in stock than will be ordered.
	stock := map[string]int{"kettle": count / 2, "teapot": count / 2}
	db := shop.NewMemory(stock)
	orders := &shop.Orders{Queues: queues, DB: db}
	services := []interface{ Serve(context.Context) error }{
		orders,
		&shop.Payment{Queues: queues, DB: db},
		&shop.Inventory{Queues: queues, Locks: locks, DB: db},
		&shop.Inventory{Queues: queues, Locks: locks, DB: db}, // a second replica
	}
	serving, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, s := range services {
		running.Go(func() {
			if err := s.Serve(serving); err != nil {
				fmt.Fprintln(out, "a service ended:", err)
			}
		})
	}
	placed, err := shopping(ctx, orders, count)
	if err == nil {
		err = wait(ctx, db, count)
	}
	stop()
	running.Wait()
	if err != nil {
		return err
	}
	return report(out, db, placed, stock)
}

// shopping places orders; every third one twice, as a customer does who got
// no answer to the first click.
func shopping(ctx context.Context, orders *shop.Orders, count int) ([]*shop.Order, error) {
	visit := rand.Text()[:6]
	var placed []*shop.Order
	for i := range count {
		o := &shop.Order{ID: fmt.Sprintf("%s-%d", visit, i), Item: "kettle", Quantity: 1 + i%3, Cents: 1995 * (1 + i%3)}
		if i%2 == 1 {
			o.Item = "teapot"
		}
		for range 1 + i%3/2 {
			if err := orders.Place(ctx, o); err != nil {
				return nil, fmt.Errorf("order %s was not taken: %w", o.ID, err)
			}
		}
		placed = append(placed, o)
	}
	return placed, nil
}

// wait waits until so many orders are finished.
func wait(ctx context.Context, db *shop.Memory, count int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for db.Finished() < count {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d orders were finished in time: %w", db.Finished(), count, ctx.Err())
		}
	}
	return nil
}

func report(out io.Writer, db *shop.Memory, placed []*shop.Order, stock map[string]int) error {
	counts := map[string]int{}
	for _, o := range placed {
		outcome := db.Outcome(o.ID)
		counts[outcome]++
		fmt.Fprintf(out, "%s  %d x %-7s %s\n", o.ID, o.Quantity, o.Item, outcome)
	}
	wrong := db.Audit(placed, stock)
	for _, w := range wrong {
		fmt.Fprintln(out, "WRONG:", w)
	}
	fmt.Fprintf(out, "%d orders: %d shipped, %d refused; %d writes of stock rows\n",
		len(placed), counts[shop.Shipped], counts[shop.Refused], db.Updates)
	if len(wrong) > 0 {
		return fmt.Errorf("the books do not balance: %d errors", len(wrong))
	}
	fmt.Fprintln(out, "the books balance: nothing lost, nothing done twice")
	return nil
}
