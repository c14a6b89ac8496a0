package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Bounds of `lockkeeper top`.
const (
	defaultTopNames = 200
	maxTopNames     = driver.MaxList
	maxTopSnapshots = 1_000_000
	maxTopInterval  = time.Hour
)

// top is one `lockkeeper top`.
type top struct {
	*app
	interval time.Duration
	names    int
	once     bool
	count    int
	sort     []string

	locksBy  topOrder[lockRow]
	queuesBy topOrder[queueRow]
}

func (a *app) topCommand() *cobra.Command {
	t := &top{app: a, locksBy: lockOrders[0], queuesBy: queueOrders[0]}
	cmd := &cobra.Command{
		Use:     "top [PREFIX]",
		GroupID: groupServer,
		Short:   "Watch the busiest locks and queues",
		Long: `Watch locks, those with the longest lines first, and queues, the deepest first,
with how many messages come in and are acked a second.

On a terminal it is a live screen. Keys:

  q, Escape, Ctrl-C  quit            /  filter by the beginning of names
  Tab   locks, queues, or both       p  pause and go on
  + -   more and less often          arrows, PgUp, PgDn, Home, End  scroll
  order locks by   w waiting, o oldest wait, e what ends next, n name
  order queues by  d depth, f in flight, r rate, o oldest message, n name

Elsewhere, and with --once, --count or --json, it prints snapshots. The first
knows no rates: they come from the counters of two. in/s are messages that the
queue took, out/s those that were acked.

It costs the server two requests an interval: one list of at most --names locks,
each with the first 100 of its line, and the statistics of as many queues. Of
more names it looks at the first in byte order, and says so: a PREFIX picks
others.`,
		Example: `  lockkeeper top
  lockkeeper top payments
  lockkeeper top --sort rate,ends --interval 5s
  lockkeeper top --count 2 --interval 10s      # the second has rates over 10 s
  lockkeeper top --json | jq -r '.locks[] | select(.waiting > 10) | .name'`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
			if err := t.check(cmd); err != nil {
				return err
			}
			return t.run(cmd.Context(), prefix)
		},
	}
	cmd.Flags().DurationVar(&t.interval, "interval", 2*time.Second, "how often to look")
	cmd.Flags().IntVar(&t.names, "names", defaultTopNames, fmt.Sprintf("look at so many locks and queues at most, up to %d", maxTopNames))
	cmd.Flags().BoolVar(&t.once, "once", false, "print one snapshot, also on a terminal")
	cmd.Flags().IntVar(&t.count, "count", 0, "print so many snapshots, also on a terminal")
	cmd.Flags().StringSliceVar(&t.sort, "sort", nil, "order of the tables: "+strings.Join(topOrderNames(), ", "))
	return cmd
}

func (t *top) check(cmd *cobra.Command) error {
	switch {
	case t.interval < minInterval || t.interval > maxTopInterval:
		return usageOf(cmd, fmt.Errorf("--interval must be %v to %v, is %v", minInterval, maxTopInterval, t.interval))
	case t.names < 1 || t.names > maxTopNames:
		return usageOf(cmd, fmt.Errorf("--names must be 1 to %d, is %d", maxTopNames, t.names))
	case t.count < 0 || t.count > maxTopSnapshots:
		return usageOf(cmd, fmt.Errorf("--count must be 0 to %d, is %d", maxTopSnapshots, t.count))
	case t.once && t.count > 1:
		return usageOf(cmd, errors.New("--once and --count exclude each other"))
	}
	for _, name := range t.sort {
		if !t.orderBy(func(o orderName) bool { return o.name == name }) {
			return usageOf(cmd, fmt.Errorf("--sort does not know %q, but %s", name, strings.Join(topOrderNames(), ", ")))
		}
	}
	return nil
}

func (t *top) run(ctx context.Context, prefix string) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	source, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, source.Close)
	fetch := bounded(source.fetch(prefix))
	if out := live.Terminal(t.Out); out != nil && !t.once && t.count == 0 && !t.json {
		// What cannot be reached at all is an error that is to stay on the terminal.
		first, err := fetch(ctx)
		if err != nil {
			return err
		}
		screen, err := live.Open(t.In, out)
		if err != nil {
			return err
		}
		return newTopView(t, source, prefix, first).run(ctx, screen)
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for n := 0; ; {
		s, err := fetch(ctx)
		switch {
		case err != nil && (n == 0 || ctx.Err() != nil):
			return cmp.Or[error](interruptedAfter(ctx, n), err)
		case err != nil:
			t.say("no snapshot: %v", err)
		default:
			if err := t.print(s, n > 0); err != nil {
				return err
			}
		}
		if n++; n >= t.count {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// print prints a snapshot.
func (t *top) print(s *topSample, again bool) error {
	if t.json {
		return t.printJSON(s.json())
	}
	locks, queues := t.sorted(s)
	var b strings.Builder
	if again {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s  %s  %s\n", s.at.Format(time.TimeOnly), t.shownURL(), s.summary())
	if len(locks) > 0 {
		fmt.Fprintf(&b, "\n%s\n%s", t.locksTitle(s), lockRows(locks))
	}
	if len(queues) > 0 {
		fmt.Fprintf(&b, "\n%s\n%s", t.queuesTitle(s), queueRows(queues))
	}
	_, err := fmt.Fprint(t.Out, b.String())
	return err
}

func (t *top) locksTitle(s *topSample) string {
	return "LOCKS by " + t.locksBy.name + seen(s.locks.more, len(s.locks.rows))
}

func (t *top) queuesTitle(s *topSample) string {
	return "QUEUES by " + t.queuesBy.name + seen(s.queues.more, len(s.queues.rows))
}

// seen says whether there are more names than were looked at.
func seen(more bool, n int) string {
	if !more {
		return ""
	}
	return fmt.Sprintf(" (only the first %d names of more; a prefix shows others)", n)
}

// sorted returns the rows of a sample in the chosen order.
func (t *top) sorted(s *topSample) ([]*lockRow, []*queueRow) {
	return t.locksBy.sort(s.locks.rows), t.queuesBy.sort(s.queues.rows)
}

// orderBy chooses the orders, of locks, of queues or of both, that is accepts,
// and says whether there was one.
func (t *top) orderBy(is func(orderName) bool) bool {
	found := false
	for _, o := range lockOrders {
		if is(o.orderName) {
			t.locksBy, found = o, true
		}
	}
	for _, o := range queueOrders {
		if is(o.orderName) {
			t.queuesBy, found = o, true
		}
	}
	return found
}

func topOrderNames() []string {
	var names []string
	for _, o := range lockOrders {
		names = append(names, o.name)
	}
	for _, o := range queueOrders {
		if !slices.Contains(names, o.name) {
			names = append(names, o.name)
		}
	}
	return names
}

// orderName is what --sort and the keys call an order.
type orderName struct {
	key  live.Key
	name string
}

// topOrder is an order of a table: the greatest first.
type topOrder[R any] struct {
	orderName
	compare func(a, b *R) int
}

func (o topOrder[R]) sort(rows []*R) []*R {
	// They come in the order of their names, which rows that are equal keep.
	return slices.SortedStableFunc(slices.Values(rows), func(a, b *R) int { return o.compare(b, a) })
}

var lockOrders = []topOrder[lockRow]{
	{orderName{'w', "waiting"}, func(a, b *lockRow) int {
		return cmp.Or(cmp.Compare(a.waiting, b.waiting), cmp.Compare(a.oldest, b.oldest))
	}},
	{orderName{'o', "oldest"}, func(a, b *lockRow) int { return cmp.Compare(a.oldest, b.oldest) }},
	{orderName{'e', "ends"}, func(a, b *lockRow) int { return cmp.Compare(b.remaining, a.remaining) }},
	{orderName{'n', "name"}, func(a, b *lockRow) int { return strings.Compare(b.name, a.name) }},
}

var queueOrders = []topOrder[queueRow]{
	{orderName{'d', "depth"}, func(a, b *queueRow) int { return cmp.Compare(a.depth(), b.depth()) }},
	{orderName{'f', "in-flight"}, func(a, b *queueRow) int { return cmp.Compare(a.InFlight, b.InFlight) }},
	{orderName{'r', "rate"}, func(a, b *queueRow) int { return cmp.Compare(a.in.rate+a.out.rate, b.in.rate+b.out.rate) }},
	{orderName{'o', "oldest"}, func(a, b *queueRow) int { return cmp.Compare(a.age(), b.age()) }},
	{orderName{'n', "name"}, func(a, b *queueRow) int { return strings.Compare(b.Name, a.Name) }},
}

// interruptedAfter returns the interruption that ended ctx before anything was
// printed.
func interruptedAfter(ctx context.Context, n int) error {
	if i := interrupted(ctx); i != nil && n == 0 {
		return i
	}
	return nil
}
