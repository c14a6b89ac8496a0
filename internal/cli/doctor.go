package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

const (
	doctorReads  = 100 // requests for the round trip
	doctorWrites = 20  // cycles of acquire and release
	// engineBackend is what the engine calls itself in its capabilities.
	engineBackend = "engine"
	// Above these the doctor has something to say.
	slowRead   = 50 * time.Millisecond
	slowWrite  = 20 * time.Millisecond
	clockDrift = 2 * time.Second
)

// examination is one `lockkeeper doctor`.
type examination struct {
	*app
	found diagnosis
}

// diagnosis is what the doctor found; it is what `doctor --json` prints.
type diagnosis struct {
	URL           string      `json:"url"`
	Version       string      `json:"version,omitempty"` // of the daemon
	Client        string      `json:"client_version"`
	Locks         *lock.Caps  `json:"locks,omitempty"`
	Queues        *queue.Caps `json:"queues,omitempty"`
	Read          quantiles   `json:"read_round_trip"`
	Write         quantiles   `json:"lock_cycle"`
	ClockMS       *float64    `json:"clock_difference_ms,omitempty"` // server - here
	ClockWithinMS float64     `json:"clock_uncertainty_ms,omitempty"`
	Advice        []string    `json:"advice"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor [URL]",
		GroupID: groupServer,
		Short:   "Check a server or store: reach, version, capabilities, round trips, clock",
		Long: `Check a server or store, and give advice. It lists locks, and acquires and
releases a lock of its own, doctor/..., a few times; nothing is left behind.`,
		Example: `  lockkeeper doctor
  lockkeeper doctor http://10.0.0.7:7420
  lockkeeper doctor redis://10.0.0.8/0
  lockkeeper doctor file:///var/lib/lockkeeper     # while no daemon has it open`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.url = args[0]
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			e := &examination{app: a}
			if err := e.examine(ctx); err != nil {
				return err
			}
			return e.print()
		},
	}
}

func (e *examination) examine(ctx context.Context) error {
	d := &e.found
	d.URL, d.Client, d.Advice = e.url, currentBuild().Version, []string{}
	if strings.HasPrefix(e.url, "http") {
		if err := d.askDaemon(ctx, e.url); err != nil {
			return err
		}
	}
	// A URL that neither knows is for the locks to refuse.
	locks, queues := hasScheme(lock.Schemes(), e.url), hasScheme(queue.Schemes(), e.url)
	if locks || !queues {
		if err := e.examineLocks(ctx); err != nil && !errors.Is(err, lease.ErrUnsupported) {
			return err
		}
	}
	if queues {
		if err := e.examineQueues(ctx); err != nil && !errors.Is(err, lease.ErrUnsupported) {
			return err
		}
	}
	d.advise()
	return nil
}

// hasScheme reports whether a URL is for one of the drivers.
func hasScheme(schemes []string, url string) bool {
	scheme, _, _ := strings.Cut(url, "://")
	return slices.Contains(schemes, scheme)
}

func (e *examination) examineLocks(ctx context.Context) (err error) {
	locks, err := lock.Open(ctx, e.url)
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	caps := locks.Caps()
	e.found.Locks = &caps
	reads, writes := newLatencies(), newLatencies()
	name := "doctor/" + rand.Text()
	for range doctorReads {
		began := time.Now()
		if _, err := locks.Info(ctx, name); err != nil && !errors.Is(err, lock.ErrNotFound) {
			return err
		}
		reads.record(time.Since(began))
	}
	for range doctorWrites {
		began := time.Now()
		held, err := locks.TryAcquire(ctx, name, nil)
		if err != nil {
			return fmt.Errorf("a lock could not be acquired: %w", err)
		}
		if err := held.Release(ctx); err != nil {
			return fmt.Errorf("a lock could not be released: %w", err)
		}
		writes.record(time.Since(began))
	}
	e.found.Read, e.found.Write = reads.quantiles(), writes.quantiles()
	return nil
}

func (e *examination) examineQueues(ctx context.Context) (err error) {
	queues, err := queue.Open(ctx, e.url)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	caps := queues.Caps()
	e.found.Queues = &caps
	for _, err := range queues.AllStats(ctx, "") {
		if errors.Is(err, queue.ErrUnsupported) {
			return nil
		}
		return err // one is enough to know that queues answer
	}
	return nil
}

// advise says what the figures mean.
func (d *diagnosis) advise() {
	say := func(format string, args ...any) { d.Advice = append(d.Advice, fmt.Sprintf(format, args...)) }
	if d.Version != "" && d.Version != d.Client {
		say("The daemon is version %s, this program %s: use one version.", d.Version, d.Client)
	}
	if p := time.Duration(d.Read.P50) * time.Microsecond; p > slowRead {
		say("A round trip takes %s: run the daemon nearer to its clients, or give locks a longer --ttl.", brief(p))
	}
	read, write := time.Duration(d.Read.P50)*time.Microsecond, time.Duration(d.Write.P50)*time.Microsecond
	if write > slowWrite && write > 4*read {
		say("Acquire and release take %s, most of it in the disk's sync: put the store on a disk with a faster one (SSD, battery-backed cache).", brief(write))
	}
	if d.ClockMS != nil {
		if off := time.Duration(*d.ClockMS * float64(time.Millisecond)); off.Abs() > clockDrift {
			say("The clocks differ by %s: leases do not depend on it, but schedules and log lines do; check NTP on both.", brief(off.Abs()))
		}
	}
	if d.Locks != nil && !d.Locks.Durable && d.Locks.Backend == engineBackend {
		say("Locks are forgotten at a restart of the backend (memory): serve with --data DIR for anything that matters.")
	}
	if d.Locks != nil && d.Locks.FailoverLosesGrant {
		say("A failover can lose a grant (see \"a lost node\"): two can hold one name then, so let what they work on compare tokens.")
	}
	if d.Queues != nil && d.Queues.Durability == queue.Memory {
		say("Messages are lost when the backend ends (memory): serve with --data DIR for anything that matters.")
	}
}

func (e *examination) print() error {
	d := &e.found
	if e.json {
		return e.printJSON(d)
	}
	t := newTable("URL", d.URL)
	if d.Version != "" {
		t.row("daemon", d.Version)
	}
	t.row("this program", d.Client)
	if d.Locks != nil {
		for _, row := range locksCapsRows(d.Locks) {
			t.row(row[0], row[1])
		}
		t.row("round trip", timesText(d.Read))
		t.row("acquire + release", timesText(d.Write))
	} else {
		t.row("locks", "not served")
	}
	if d.Queues != nil {
		t.row("queues", queuesCapsText(d.Queues))
	} else {
		t.row("queues", "not served")
	}
	if d.ClockMS != nil {
		t.row("clock", fmt.Sprintf("the server's is %+.1f ms from this one's, to within %.1f ms", *d.ClockMS, d.ClockWithinMS))
	}
	if _, err := fmt.Fprint(e.Out, t); err != nil {
		return err
	}
	if len(d.Advice) == 0 {
		d.Advice = []string{"All is well."}
	}
	_, err := fmt.Fprintf(e.Out, "\n%s\n", strings.Join(d.Advice, "\n"))
	return err
}

func timesText(q quantiles) string {
	us := func(n int64) string { return brief(time.Duration(n) * time.Microsecond) }
	return fmt.Sprintf("p50 %s, p99 %s, max %s over %d", us(q.P50), us(q.P99), us(q.Max), q.Count)
}
