// Command scale measures whether the engine and the daemon stay as they are
// when much is stored, held or declared, and when they run for long:
//
//	go run ./scale backlog -n 10000000
//	go run ./scale delayed -n 1000000
//	go run ./scale delayed -n 1000000 -spread 20s
//	go run ./scale dedup -n 1000000
//	go run ./scale idle -queues 10000 -locks 100000 -for 1m
//	go run ./scale leases -n 100000 -for 1m
//	go run ./scale steady -for 30m -csv steady.csv -svg steady.svg
//
// All run on file:// in a directory under -dir, which is removed at the end,
// every confirm synced. What is measured runs in processes of its own, whose
// memory and processor time are theirs alone; the load that they put on
// themselves is included. Without -n and the like the numbers are small: what
// the tests run. With -profile there are profiles of it. It needs Linux.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"
)

// config is what a measurement is asked for. It is passed on to the
// processes that it starts.
type config struct {
	Dir string // where the store is made
	N   int    // how many messages or leases
	URL string // of a daemon; "": the engine in the process

	Acks   string        // backlog: plain or held
	Kill   bool          // backlog: be killed with a log to be replayed
	Queues int           // idle
	Locks  int           // idle
	For    time.Duration // idle, leases, steady
	TTL    time.Duration // leases
	Spread time.Duration // delayed: of the times when they are due
	Depth  int           // steady
	Every  time.Duration // steady: between two samples
	CSV    string        // steady
	SVG    string        // steady

	Profile string // of the processor time of what is measured: a file for each role
}

// measurements by name.
var measurements = map[string]func(ctx context.Context, c *config) error{
	"backlog": backlog,
	"delayed": delayed,
	"dedup":   dedup,
	"idle":    idle,
	"leases":  leases,
	"steady":  steady,
	"plot":    func(_ context.Context, c *config) error { return plotFile(c.CSV, c.SVG) },
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "process" {
		return serve(ctx, args[1], args[2])
	}
	if len(args) == 0 || measurements[args[0]] == nil {
		var names []string
		for name := range measurements {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("say what to measure: %v", names)
	}
	c := &config{}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&c.Dir, "dir", os.TempDir(), "where to make the stores")
	f.IntVar(&c.N, "n", 20_000, "how many messages or leases")
	f.IntVar(&c.Queues, "queues", 100, "idle: queues")
	f.IntVar(&c.Locks, "locks", 1000, "idle: names of locks that are held")
	f.DurationVar(&c.For, "for", 3*time.Second, "idle, leases, steady: how long")
	f.DurationVar(&c.TTL, "ttl", 30*time.Second, "leases: their TTL")
	f.DurationVar(&c.Spread, "spread", 0, "delayed: the time over which messages are due, at random; 0: all at once")
	f.IntVar(&c.Depth, "depth", 10, "steady: messages in the queue")
	f.DurationVar(&c.Every, "every", 5*time.Second, "steady: time between two samples")
	f.StringVar(&c.CSV, "csv", "", "steady, plot: file for the samples")
	f.StringVar(&c.SVG, "svg", "", "steady, plot: file for the plot")
	f.StringVar(&c.Profile, "profile", "", "beginning of the names of files for profiles of the processor time, one for each process")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	return inScratch(c, func() error { return measurements[args[0]](ctx, c) })
}

// inScratch gives a measurement a directory of its own.
func inScratch(c *config, fn func() error) (err error) {
	dir, err := os.MkdirTemp(c.Dir, "scale-")
	if err != nil {
		return err
	}
	c.Dir = dir
	defer func() {
		if rm := os.RemoveAll(dir); err == nil {
			err = rm
		}
	}()
	return fn()
}

// roles are what a process can be started for. Each reports what it found.
var roles = map[string]func(ctx context.Context, c *config, report func(any) error) error{
	"backlog-fill":  backlogFill,
	"backlog-first": backlogFirst,
	"backlog-drain": backlogDrain,
	"delayed":       delayedRole,
	"dedup":         dedupRole,
	"idle":          idleRole,
	"leases":        leasesRole,
	"daemon":        daemonRole,
	"steady":        steadyRole,
}

func serve(ctx context.Context, role, text string) error {
	c := &config{}
	if err := json.Unmarshal([]byte(text), c); err != nil {
		return err
	}
	do := roles[role]
	if do == nil {
		return fmt.Errorf("no role %q", role)
	}
	out := json.NewEncoder(os.Stdout)
	return profiled(c, role, func() error { return do(ctx, c, out.Encode) })
}

// profiled does what a role is for, with a profile if one is asked for.
func profiled(c *config, role string, do func() error) error {
	if c.Profile == "" {
		return do()
	}
	file, err := os.Create(fmt.Sprintf("%s-%s-%d.pprof", c.Profile, role, c.N)) //nolint:gosec // the file that is asked for
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	err = do()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}
