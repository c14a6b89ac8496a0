package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) queuesCommand() *cobra.Command {
	var watch watching
	cmd := &cobra.Command{
		Use:     "queues [PREFIX]",
		GroupID: groupQueues,
		Short:   "Show queues with their depths and counters",
		Long: `Show queues with their depths and counters. Ready messages wait for a consumer,
or for their order key's turn; delayed ones for their time; in-flight ones are
with a consumer.

With --watch a terminal shows them live; q or Ctrl-C ends it, the arrows
scroll. Elsewhere it prints a line for each queue, and then one whenever a
queue has changed since the last look. See also: lockkeeper top.`,
		Example: `  lockkeeper queues
  lockkeeper queues --watch payments
  lockkeeper queues --watch --interval 5s >> queues.log
  lockkeeper queues --json | jq -r 'select(.ready > 1000) | .name'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return a.showQueues(cmd.Context(), prefix, &watch)
		},
	}
	watch.flags(cmd, "how often to look with --watch")
	return cmd
}

func (a *app) showQueues(ctx context.Context, prefix string, watch *watching) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	queues, err := a.openQueues(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	seen := map[string]queue.Stats{}
	return show(ctx, a, watch, &shown[[]*queue.Stats]{
		title: "queues " + prefix,
		fetch: func(ctx context.Context) ([]*queue.Stats, error) {
			var stats []*queue.Stats
			for s, err := range queues.AllStats(ctx, prefix) {
				if err != nil {
					return nil, err
				}
				stats = append(stats, s)
			}
			return stats, nil
		},
		text: func(stats []*queue.Stats) (string, error) {
			if a.json {
				return queuesJSON(stats)
			}
			if len(stats) == 0 {
				return noQueues, nil
			}
			return queuesTable(stats).String(), nil
		},
		lines: func(stats []*queue.Stats, width int) []live.Line {
			if len(stats) == 0 {
				return live.Lines(noQueues)
			}
			return queuesTable(stats).Lines(width)
		},
		changes: func(stats []*queue.Stats) (string, error) { return a.queueChanges(seen, stats) },
	})
}

const noQueues = "there are no queues; declare one with: lockkeeper declare queue NAME\n"

func queuesTable(stats []*queue.Stats) *live.Table {
	t := &live.Table{Columns: []live.Column{
		{Title: "NAME", Flex: true}, {Title: "READY", Right: true}, {Title: "DELAYED", Right: true, Drop: 5},
		{Title: "IN FLIGHT", Right: true}, {Title: "OLDEST", Right: true}, {Title: "CONSUMERS", Right: true, Drop: 4},
		{Title: "PUBLISHED", Right: true, Drop: 2}, {Title: "ACKED", Right: true, Drop: 3},
		{Title: "NACKED", Right: true, Drop: 6}, {Title: "DEAD", Right: true, Drop: 1},
	}}
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	for _, s := range stats {
		t.Rows = append(t.Rows, []string{s.Name, n(s.Ready), n(s.Delayed), n(s.InFlight), oldest(s), strconv.Itoa(s.Consumers),
			n(s.Published), n(s.Acked), n(s.Nacked + s.Expired), n(s.DeadLettered)})
	}
	return t
}

// oldest is the age of the oldest message, if there is one.
func oldest(s *queue.Stats) string {
	if s.Ready+s.Delayed+s.InFlight == 0 {
		return "-"
	}
	return brief(s.OldestAge)
}

// queueChanges returns a line for each queue that is not as it was seen last,
// apart from the age of its messages, and notes what it is now.
func (a *app) queueChanges(seen map[string]queue.Stats, stats []*queue.Stats) (string, error) {
	var changed []*queue.Stats
	gone := maps.Clone(seen)
	for _, s := range stats {
		now := *s
		now.OldestAge = 0
		if before, ok := seen[s.Name]; !ok || !reflect.DeepEqual(before, now) {
			changed = append(changed, s)
		}
		seen[s.Name] = now
		delete(gone, s.Name)
	}
	for name := range gone {
		delete(seen, name)
	}
	if a.json {
		text, err := queuesJSON(changed)
		for _, name := range slices.Sorted(maps.Keys(gone)) {
			line, _ := json.Marshal(queueGoneJSON{name, true}) // a string and a bool
			text += string(line) + "\n"
		}
		return text, err
	}
	var b strings.Builder
	at := time.Now().Format(time.TimeOnly)
	for _, s := range changed {
		fmt.Fprintf(&b, "%s %s ready=%d delayed=%d in_flight=%d oldest=%s consumers=%d published=%d acked=%d nacked=%d dead=%d\n", at, s.Name,
			s.Ready, s.Delayed, s.InFlight, oldest(s), s.Consumers, s.Published, s.Acked, s.Nacked+s.Expired, s.DeadLettered)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		fmt.Fprintf(&b, "%s %s deleted\n", at, name)
	}
	return b.String(), nil
}

// queueGoneJSON is a line of `queues --watch --json` about a queue that was
// deleted.
type queueGoneJSON struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
}

// queueJSON is a line of `queues --json`.
type queueJSON struct {
	Name         string `json:"name"`
	Ready        int64  `json:"ready"`
	Delayed      int64  `json:"delayed"`
	InFlight     int64  `json:"in_flight"`
	Bytes        int64  `json:"bytes"`
	OldestMS     int64  `json:"oldest_age_ms"`
	Consumers    int    `json:"consumers"`
	Waiting      int    `json:"waiting"`
	Published    int64  `json:"published"`
	Duplicates   int64  `json:"duplicates"`
	Delivered    int64  `json:"delivered"`
	Acked        int64  `json:"acked"`
	Nacked       int64  `json:"nacked"`
	Expired      int64  `json:"expired"`
	DeadLettered int64  `json:"dead_lettered"`
	Dropped      int64  `json:"dropped"`
	TimedOut     int64  `json:"timed_out"`
	Overflowed   int64  `json:"overflowed"`
	Refused      int64  `json:"refused"`
}

func queuesJSON(stats []*queue.Stats) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, s := range stats {
		line := queueJSON{
			Name: s.Name, Ready: s.Ready, Delayed: s.Delayed, InFlight: s.InFlight, Bytes: s.Bytes,
			OldestMS: s.OldestAge.Milliseconds(), Consumers: s.Consumers, Waiting: s.Waiting, Published: s.Published,
			Duplicates: s.Duplicates, Delivered: s.Delivered, Acked: s.Acked, Nacked: s.Nacked,
			Expired: s.Expired, DeadLettered: s.DeadLettered, Dropped: s.Dropped,
			TimedOut: s.TimedOut, Overflowed: s.Overflowed, Refused: s.Refused,
		}
		if err := enc.Encode(line); err != nil {
			return "", fmt.Errorf("queue %q: %w", s.Name, err)
		}
	}
	return out.String(), nil
}

// completeQueue offers the names of queues for the first argument.
func (a *app) completeQueue(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	queues, err := a.openQueues(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer queues.Close() //nolint:errcheck // a completion has nobody to tell
	var names []string
	for s, err := range queues.AllStats(ctx, prefix) {
		if err != nil {
			break
		}
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
