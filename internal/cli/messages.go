package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func (a *app) peekCommand() *cobra.Command {
	var most int
	var after uint64
	cmd := &cobra.Command{
		Use:     "peek QUEUE",
		GroupID: groupQueues,
		Short:   "Look at messages without taking them",
		Example: `  lockkeeper peek payments.dead
  lockkeeper peek payments.dead --json | jq '.headers["lockkeeper-death-detail"]'`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			if most < 1 || most > driver.MaxPeek {
				return usageOf(cmd, fmt.Errorf("--max must be 1 to %d, is %d", driver.MaxPeek, most))
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				messages, err := queues.Peek(ctx, args[0], after, most)
				if err != nil {
					return err
				}
				return a.printPeeked(args[0], messages)
			})
		},
	}
	cmd.Flags().IntVar(&most, "max", 20, "how many messages at most")
	cmd.Flags().Uint64Var(&after, "after", 0, "continue behind the message with this `SEQ`")
	return cmd
}

// peekWidth is how much of a body the table shows, in bytes.
const peekWidth = 60

func (a *app) printPeeked(name string, messages []queue.Peeked) error {
	t := newTable("SEQ", "STATE", "ATTEMPTS", "AGE", "EXCHANGE", "KEY", "ID", "BODY")
	for i := range messages {
		m := &messages[i]
		if a.json {
			j := newMessageJSON(name, m.Route, m.Message)
			j.Seq, j.State, j.Attempt, j.AgeMS = m.Seq, string(m.State), new(m.Attempts), new(m.Age.Milliseconds())
			if err := a.printJSON(j); err != nil {
				return err
			}
			continue
		}
		t.row(strconv.FormatUint(m.Seq, 10), string(m.State), strconv.Itoa(m.Attempts), brief(m.Age),
			strconv.Quote(m.Route.Exchange), m.Route.Key, m.Message.ID, excerpt(m.Message.Body))
	}
	if a.json {
		return nil
	}
	if len(messages) == 0 {
		_, err := fmt.Fprintln(a.Out, "no messages")
		return err
	}
	_, err := fmt.Fprint(a.Out, t)
	return err
}

// excerpt is the beginning of a body on one line, with nothing that could
// move a terminal's cursor.
func excerpt(body []byte) string {
	if !utf8.Valid(body) {
		return fmt.Sprintf("(%d bytes of binary data)", len(body))
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, string(body))
	if len(text) <= peekWidth {
		return text
	}
	cut := peekWidth
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cancel QUEUE ID",
		GroupID: groupQueues,
		Short:   "Cancel a message that waits for its time",
		Long: `Cancel the message of QUEUE with this ID that was published with --delay or
--at and has not come due. It is an error if there is none.`,
		Example: `  lockkeeper publish "" reminders 'wake up' --delay 8h --id reminder-17
  lockkeeper cancel reminders reminder-17`,
		Args:              arguments(2, 2),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				if err := queues.CancelScheduled(ctx, args[0], args[1]); err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]string{"cancelled": args[1]})
				}
				_, err := fmt.Fprintf(a.Out, "cancelled %s\n", args[1])
				return err
			})
		},
	}
}

func (a *app) purgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "purge QUEUE",
		GroupID:           groupQueues,
		Short:             "Drop all messages of a queue that no consumer has",
		Example:           "  lockkeeper purge payments.dead",
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				n, err := queues.Purge(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printCount("dropped", n)
			})
		},
	}
}

func (a *app) redriveCommand() *cobra.Command {
	var most int
	var exchange, key string
	cmd := &cobra.Command{
		Use:     "redrive QUEUE",
		GroupID: groupQueues,
		Short:   "Move dead letters back to where they were first published",
		Example: `  lockkeeper redrive payments.dead
  lockkeeper redrive payments.dead --max 10
  lockkeeper redrive payments.dead --to-key payments-by-hand    # to that queue instead`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			if most < 0 {
				return usageOf(cmd, errors.New("--max must not be negative"))
			}
			r := &queue.RedriveRequest{Queue: args[0]}
			if cmd.Flags().Changed("to-exchange") || cmd.Flags().Changed("to-key") {
				r.To = &queue.Route{Exchange: exchange, Key: key}
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				return a.redrive(ctx, queues, r, most)
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&most, "max", 0, "how many at most; 0: all there are now")
	f.StringVar(&exchange, "to-exchange", "", "publish them to this exchange instead")
	f.StringVar(&key, "to-key", "", "publish them with this routing key instead")
	return cmd
}

// redrive moves in steps of what one request may move. It ends after as many
// as there were at first: dead letters that come back at once would otherwise
// go around for ever.
func (a *app) redrive(ctx context.Context, queues *queue.Broker, r *queue.RedriveRequest, most int) error {
	left := int64(most)
	if most == 0 {
		stats, err := queues.Stats(ctx, r.Queue)
		switch {
		case errors.Is(err, queue.ErrUnsupported):
			left = driver.MaxRedrive // nobody knows how many there are
		case err != nil:
			return err
		default:
			left = stats.Ready + stats.Delayed
		}
	}
	var moved int64
	for left > 0 {
		r.Max = int(min(left, driver.MaxRedrive))
		n, err := queues.Redrive(ctx, r)
		moved += n
		left -= n
		if err != nil {
			return fmt.Errorf("after %s: %w", plural(moved, "message"), err)
		}
		if n < int64(r.Max) {
			break
		}
	}
	return a.printCount("moved", moved)
}

// printCount says what was done with how many messages.
func (a *app) printCount(done string, n int64) error {
	if a.json {
		return a.printJSON(map[string]int64{done: n})
	}
	_, err := fmt.Fprintf(a.Out, "%s %s\n", done, plural(n, "message"))
	return err
}
