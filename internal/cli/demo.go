package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/examples/orders/shop"
	"github.com/lockkeeper/lockkeeper/queue"
)

const (
	maxDemo = time.Hour
	// demoRate is how many orders a second are placed.
	demoRate = 40
	// settleDown bounds the wait for the last orders, once nothing is killed
	// any more. Leases of what was killed run out first.
	settleDown = time.Minute
	// pauseFor is how long a paused worker is stopped: until its locks have
	// gone to another, so that what it then writes is stale.
	pauseFor = shop.LockTTL + time.Second
)

// demoWorkers are the processes of the demo, besides the daemon.
var demoWorkers = []string{"payment", "payment", "inventory", "inventory", "inventory", "orders"}

// demo is one `lockkeeper demo`.
type demo struct {
	*app
	duration time.Duration
	calm     bool

	db      *shop.Memory
	stock   map[string]int
	daemon  *minion
	workers []*minion
	queues  *queue.Broker
	board   *demoBoard

	placed  []*shop.Order // confirmed
	unsure  int           // attempts to place an order that had no answer, and were repeated
	kills   map[string]int
	slowest time.Duration // from a kill of the daemon until it served again
}

func (a *app) demoCommand() *cobra.Command {
	d := &demo{app: a, kills: map[string]int{}}
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupServer,
		Short:   "Watch a shop survive random kills, then check its books",
		Long: `Start a daemon on a free port with its data in a temporary directory, and a shop
of three services in several processes: orders -> payment -> inventory. While
orders come in, kill the daemon and the services with SIGKILL at random, start
them again, and pause services until they are overtaken. Then check:

  - every order that was confirmed to the customer is finished: nothing lost;
  - each was charged once and taken from stock at most once;
  - the stock is what the orders leave: no write of a row undid another;
  - fencing tokens only grew: writes of overtaken services were refused;
  - no message was given up.

On a terminal it shows the orders, the processes with how often each was killed
or paused, and the queues and locks as 'lockkeeper top' does; elsewhere a line
for each thing that it does to them.

The exit status is 1 if any of this does not hold. Everything is removed at the
end. The services are those of examples/orders, to be read there.`,
		Example: `  lockkeeper demo
  lockkeeper demo --duration 10s`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.duration <= 0 || d.duration > maxDemo {
				return usageOf(cmd, fmt.Errorf("--duration must be more than 0 and at most %v, is %v", maxDemo, d.duration))
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&d.duration, "duration", time.Minute, "how long orders come in")
	cmd.Flags().BoolVar(&d.calm, "no-kills", false, "kill and pause nothing")
	cmd.AddCommand(a.demoWorkerCommand())
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	dir, err := os.MkdirTemp("", "lockkeeper-demo-")
	if err != nil {
		return err
	}
	defer closing(&err, func() error { return os.RemoveAll(dir) })
	defer d.stopAll()
	d.stock = map[string]int{}
	// There is less in stock than will be ordered of most items.
	for i := range 5 {
		d.stock["item-"+strconv.Itoa(i)] = 20 + 40*i + int(d.duration.Seconds())*demoRate/8
	}
	d.db = shop.NewMemory(d.stock)
	db, err := serveDatabase(ctx, d.db)
	if err != nil {
		return err
	}
	defer closing(&err, db.Close)
	if err := d.start(ctx, dir, db.url); err != nil {
		return err
	}
	defer closing(&err, d.queues.Close)
	d.say("a daemon at %s and %d services run; orders come in for %v", d.url, len(d.workers), d.duration)
	d.board = newDemoBoard(d)
	stopBoard, err := d.board.show(ctx)
	if err != nil {
		return err
	}
	defer stopBoard() // before the daemon ends

	open, closeShop := context.WithTimeout(ctx, d.duration)
	defer closeShop()
	chaos := make(chan error, 1)
	go func() { chaos <- d.disturb(open) }()
	shopErr := d.shopping(open, ctx)
	closeShop()
	if err := errors.Join(shopErr, <-chaos); err != nil {
		return err
	}
	if i := interrupted(ctx); i != nil {
		return i
	}
	d.board.finish()
	if err := d.settle(ctx); err != nil {
		return err
	}
	stopBoard()
	return d.conclude(ctx)
}

// start starts the daemon, declares the shop, and starts the services.
func (d *demo) start(ctx context.Context, dir, dbURL string) error {
	var err error
	if d.daemon, err = startDaemon(ctx, dir); err != nil {
		return err
	}
	d.url = d.daemon.url
	if d.queues, err = d.openQueues(ctx); err != nil {
		return err
	}
	if err := d.queues.Declare(ctx, shop.Topology()); err != nil {
		return err
	}
	for i, role := range demoWorkers {
		w := &minion{name: role + " " + strconv.Itoa(i), args: []string{"demo", "worker", role, "--url", d.url, "--database", dbURL}}
		if err := w.start(); err != nil {
			return err
		}
		d.workers = append(d.workers, w)
	}
	return nil
}

// shopping places orders until open ends. An order that was not confirmed is
// placed again until it is, as a customer with a retry button would.
func (d *demo) shopping(open, ctx context.Context) error {
	service := &shop.Orders{Queues: d.queues, DB: d.db}
	visit := rand.Text()[:8]
	tick := time.NewTicker(time.Second / demoRate)
	defer tick.Stop()
	for i := 0; open.Err() == nil; i++ {
		o := &shop.Order{
			ID: visit + "-" + strconv.Itoa(i), Item: "item-" + strconv.Itoa(i%len(d.stock)),
			Quantity: 1 + i%3, Cents: 100 + i%9900,
		}
		for {
			err := service.Place(ctx, o)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil // interrupted: run says so
			}
			if !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrUnknown) {
				return fmt.Errorf("placing an order: %w", err)
			}
			d.unsure++
			d.board.ordered(len(d.placed), d.unsure)
		}
		d.placed = append(d.placed, o)
		d.board.ordered(len(d.placed), d.unsure)
		select {
		case <-tick.C:
		case <-open.Done():
		}
	}
	return nil
}

// settle waits until all orders are finished.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleDown)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for d.db.Finished() < len(d.placed) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if i := interrupted(ctx); i != nil {
				return i
			}
			return nil // the audit says what is missing
		}
	}
	return nil
}

// conclude checks the books and prints the result.
func (d *demo) conclude(ctx context.Context) error {
	stats, err := d.queues.Stats(ctx, shop.DeadQueue)
	if err != nil {
		return err
	}
	d.stopAll() // nothing writes into the database any more
	wrong := d.db.Audit(d.placed, d.stock)
	if n := stats.Ready + stats.Delayed + stats.InFlight; n > 0 {
		wrong = append(wrong, fmt.Sprintf("%s given up, in %s", plural(n, "message"), shop.DeadQueue))
	}
	if err := d.print(wrong); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the books do not balance: %s", plural(int64(len(wrong)), "error"))
	}
	return nil
}

func (d *demo) print(wrong []string) error {
	outcomes := map[string]int{}
	for _, o := range d.placed {
		outcomes[d.db.Outcome(o.ID)]++
	}
	if d.json {
		return d.printJSON(map[string]any{
			"orders_confirmed": len(d.placed), "shipped": outcomes[shop.Shipped], "refused": outcomes[shop.Refused],
			"row_writes": d.db.Updates, "stale_writes_refused": d.db.Stale, "repeated_work_absorbed": d.db.Repeated,
			"kills": d.kills, "slowest_return_ms": d.slowest.Milliseconds(), "violations": append([]string{}, wrong...),
		})
	}
	t := newTable("orders confirmed", strconv.Itoa(len(d.placed)))
	t.row("  shipped / refused", fmt.Sprintf("%d / %d", outcomes[shop.Shipped], outcomes[shop.Refused]))
	t.row("placed again, no answer", strconv.Itoa(d.unsure))
	t.row("daemon killed", strconv.Itoa(d.kills["daemon"]), "serving again after "+brief(d.slowest)+" at most")
	t.row("services killed / paused", fmt.Sprintf("%d / %d", d.kills["service"], d.kills["pause"]))
	t.row("writes of stock rows", strconv.Itoa(d.db.Updates))
	t.row("  stale ones refused", strconv.Itoa(d.db.Stale), "by their fencing token")
	t.row("repeated work absorbed", strconv.Itoa(d.db.Repeated), "after a crash between work and ack")
	verdict := "all hold: nothing lost, nothing done twice, stock right, tokens grew, nothing given up"
	if len(wrong) > 0 {
		verdict = "VIOLATED:\n  " + strings.Join(wrong[:min(len(wrong), 20)], "\n  ")
	}
	_, err := fmt.Fprintf(d.Out, "%s\ninvariants: %s\n", t, verdict)
	return err
}
