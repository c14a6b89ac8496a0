package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
)

// streamLine is a message in `stream --json`.
type streamLine struct {
	Offset uint64    `json:"offset,string"`
	Stored time.Time `json:"stored"`
	*messageJSON
}

func (a *app) streamCommand() *cobra.Command {
	var from, consumer string
	var follow bool
	var count int
	cmd := &cobra.Command{
		Use:     "stream QUEUE",
		GroupID: groupQueues,
		Short:   "Read messages of a stream",
		Long: `Read messages of a stream, up to its end, or with --follow on and on. Reading
takes nothing away.

With --consumer the offset is saved under that name, and a later run with the
same name goes on there, whatever --from says.`,
		Example: `  lockkeeper stream events
  lockkeeper stream events --from last --follow
  lockkeeper stream events --from 2026-01-31T08:00:00Z --json
  lockkeeper stream events --consumer audit --count 100`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := streamStart(from)
			if err != nil {
				return usageOf(cmd, err)
			}
			if count < 0 {
				return usageOf(cmd, errors.New("--count must not be negative"))
			}
			o.Consumer, o.ToEnd = consumer, !follow
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.withQueues(ctx, func(ctx context.Context, queues *queue.Broker) error {
				return a.stream(ctx, queues, args[0], o, count)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "first", "where to begin: first, last, next, an OFFSET, or a TIME like 2026-01-31T08:00:00Z")
	f.BoolVar(&follow, "follow", false, "wait at the end for what comes")
	f.StringVar(&consumer, "consumer", "", "save the offset under this `NAME`, and go on there")
	f.IntVar(&count, "count", 0, "stop after so many messages; 0: no limit")
	return cmd
}

// streamStart reads --from.
func streamStart(from string) (*queue.StreamOptions, error) {
	switch f := queue.From(from); f {
	case queue.FromFirst, queue.FromLast, queue.FromNext:
		return &queue.StreamOptions{From: f}, nil
	case queue.FromOffset, queue.FromTime: // are said by their values
	}
	if n, err := strconv.ParseUint(from, 10, 64); err == nil && n > 0 {
		return &queue.StreamOptions{From: queue.FromOffset, Offset: n}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, from); err == nil {
		return &queue.StreamOptions{From: queue.FromTime, Time: t}, nil
	}
	return nil, fmt.Errorf("--from must be first, last, next, an offset from 1 on, or a time like 2026-01-31T08:00:00Z, is %q", from)
}

func (a *app) stream(ctx context.Context, queues *queue.Broker, name string, o *queue.StreamOptions, count int) (err error) {
	r, err := queues.Stream(name, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for n := 0; ; n++ {
		if n == count && count > 0 {
			return r.Done()
		}
		m, err := r.Next(ctx)
		if errors.Is(err, io.EOF) || interrupted(ctx) != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.printStreamed(name, m); err != nil {
			return err
		}
	}
}

func (a *app) printStreamed(name string, m *queue.StreamMessage) error {
	if a.json {
		j := newMessageJSON(name, m.Route, m.Message)
		j.Seq = m.Offset
		return a.printJSON(&streamLine{Offset: m.Offset, Stored: m.Stored, messageJSON: j})
	}
	_, err := fmt.Fprintf(a.Out, "%d  %s  %s\n", m.Offset, m.Stored.Format(time.RFC3339), excerpt(m.Message.Body))
	return err
}
