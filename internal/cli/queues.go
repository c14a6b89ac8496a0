package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

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
with a consumer.`,
		Example: `  lockkeeper queues
  lockkeeper queues --watch payments
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
	watch.flags(cmd)
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
	return a.show(ctx, watch, func(ctx context.Context) (string, error) {
		var stats []*queue.Stats
		for s, err := range queues.AllStats(ctx, prefix) {
			if err != nil {
				return "", err
			}
			stats = append(stats, s)
		}
		if a.json {
			return queuesJSON(stats)
		}
		return queuesTable(stats), nil
	})
}

func queuesTable(stats []*queue.Stats) string {
	if len(stats) == 0 {
		return "there are no queues; declare one with: lockkeeper declare queue NAME\n"
	}
	t := newTable("NAME", "READY", "DELAYED", "IN FLIGHT", "OLDEST", "CONSUMERS", "PUBLISHED", "ACKED", "NACKED", "DEAD")
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	for _, s := range stats {
		oldest := "-"
		if s.Ready+s.Delayed+s.InFlight > 0 {
			oldest = brief(s.OldestAge)
		}
		t.row(s.Name, n(s.Ready), n(s.Delayed), n(s.InFlight), oldest, strconv.Itoa(s.Consumers),
			n(s.Published), n(s.Acked), n(s.Nacked+s.Expired), n(s.DeadLettered))
	}
	return t.String()
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
			OldestMS: s.OldestAge.Milliseconds(), Consumers: s.Consumers, Published: s.Published,
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
