package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cron"
	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schedule",
		GroupID: groupQueues,
		Short:   "Publish messages by the clock",
		Long: `Publish a message at each tick of a cron expression. The server does it, and
each tick has exactly one message, also over restarts.`,
	}
	return group(cmd, a.schedulePutCommand(), a.scheduleListCommand(), a.scheduleDeleteCommand(), a.scheduleNextCommand())
}

func (a *app) schedulePutCommand() *cobra.Command {
	var s queue.Schedule
	var missed, contentType string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "put NAME CRON EXCHANGE KEY [BODY]",
		Short: "Make or replace a schedule",
		Long: `Make the schedule NAME, or replace it. CRON has five fields (minute, hour, day,
month, weekday), six with seconds in front, or is @hourly,
@daily, @weekly, @monthly or @yearly. EXCHANGE "" is the default exchange,
which routes to the queue named KEY.`,
		Example: `  lockkeeper schedule put nightly '0 2 * * *' "" reports 'make the report' --time-zone Europe/Berlin
  lockkeeper schedule put sync '*/30 * * * * *' "" sync --missed latest
  lockkeeper schedule put nightly '0 2 * * *' "" reports --dry-run    # only show when`,
		Args: arguments(4, 5),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Name, s.Cron, s.Route = args[0], args[1], queue.Route{Exchange: args[2], Key: args[3]}
			s.Message = &queue.Message{ContentType: contentType}
			s.Missed = queue.Missed(missed)
			if len(args) == 5 {
				s.Message.Body = []byte(args[4])
			}
			if dryRun {
				checked := s
				if err := checked.Validate(); err != nil {
					return err
				}
				return a.printTicks(s.Cron, s.TimeZone, defaultTicks)
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				if err := queues.PutSchedule(ctx, &s); err != nil {
					return err
				}
				i, err := queues.Schedule(ctx, s.Name)
				if err != nil {
					return err
				}
				return a.printSchedules([]*queue.ScheduleInfo{i})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.TimeZone, "time-zone", "", "of the cron expression, like Europe/Berlin; UTC without it")
	f.StringVar(&missed, "missed", "all", "what becomes of ticks missed while the server is down: all, latest or skip")
	f.BoolVar(&s.Paused, "paused", false, "make it, and have it wait")
	f.StringVar(&contentType, "content-type", "", "of the message")
	f.BoolVar(&dryRun, "dry-run", false, "only show the next ticks")
	return cmd
}

func (a *app) scheduleListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "Show schedules and how far they have come",
		Example: `  lockkeeper schedule list`,
		Args:    arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				var all []*queue.ScheduleInfo
				for i, err := range queues.Schedules(ctx, prefix) {
					if err != nil {
						return err
					}
					all = append(all, i)
				}
				return a.printSchedules(all)
			})
		},
	}
}

func (a *app) scheduleDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a schedule",
		Example: `  lockkeeper schedule delete nightly`,
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				if err := queues.DeleteSchedule(ctx, args[0]); err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]string{"deleted": args[0]})
				}
				_, err := fmt.Fprintf(a.Out, "deleted %s\n", args[0])
				return err
			})
		},
	}
}

const (
	defaultTicks = 5
	maxTicks     = 1000
)

func (a *app) scheduleNextCommand() *cobra.Command {
	var expression, zone string
	var count int
	cmd := &cobra.Command{
		Use:   "next [NAME]",
		Short: "Show the next ticks of a schedule, or of a cron expression",
		Example: `  lockkeeper schedule next nightly
  lockkeeper schedule next --cron '30 2 * * *' --time-zone Europe/Berlin --count 10`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 || count > maxTicks {
				return usageOf(cmd, fmt.Errorf("--count must be 1 to %d, is %d", maxTicks, count))
			}
			if (expression == "") != (len(args) == 1) {
				return usageOf(cmd, errors.New("needs the name of a schedule, or --cron"))
			}
			if expression != "" {
				return a.printTicks(expression, zone, count)
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				i, err := queues.Schedule(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printTicks(i.Cron, i.TimeZone, count)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&expression, "cron", "", "this `EXPRESSION` instead of a schedule's")
	f.StringVar(&zone, "time-zone", "", "of --cron; UTC without it")
	f.IntVar(&count, "count", defaultTicks, "how many")
	return cmd
}

// printTicks shows the ticks that come next, as local times of their zone.
func (a *app) printTicks(expression, zone string, count int) error {
	s, err := cron.Compile(expression, zone)
	if err != nil {
		return err
	}
	at := time.Now().UnixNano()
	for range count {
		if at = s.Next(at); at == 0 {
			return nil
		}
		text := s.Local(at).Format(time.RFC3339)
		if a.json {
			err = a.printJSON(map[string]string{"tick": text})
		} else {
			_, err = fmt.Fprintln(a.Out, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scheduleJSON is a schedule in JSON.
type scheduleJSON struct {
	Name      string     `json:"name"`
	Cron      string     `json:"cron"`
	TimeZone  string     `json:"time_zone,omitempty"`
	Exchange  string     `json:"exchange"`
	Key       string     `json:"key"`
	Missed    string     `json:"missed"`
	Paused    bool       `json:"paused"`
	Next      *time.Time `json:"next_tick,omitempty"`
	Last      *time.Time `json:"last_tick,omitempty"`
	Waiting   int        `json:"waiting"`
	Published int64      `json:"published"`
	Skipped   int64      `json:"skipped"`
	Failed    int64      `json:"failed"`
	Error     string     `json:"error,omitempty"`
}

func (a *app) printSchedules(all []*queue.ScheduleInfo) error {
	t := newTable("NAME", "CRON", "ZONE", "NEXT", "LAST", "PUBLISHED", "SKIPPED", "FAILED", "STATE")
	moment := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return at.Format(time.RFC3339)
	}
	for _, i := range all {
		if a.json {
			j := scheduleJSON{
				Name: i.Name, Cron: i.Cron, TimeZone: i.TimeZone, Exchange: i.Route.Exchange, Key: i.Route.Key, Missed: string(i.Missed),
				Paused: i.Paused, Waiting: i.Waiting, Published: i.Published, Skipped: i.Skipped, Failed: i.Failed, Error: i.Error,
			}
			if !i.Next.IsZero() {
				j.Next = &i.Next
			}
			if !i.Last.IsZero() {
				j.Last = &i.Last
			}
			if err := a.printJSON(&j); err != nil {
				return err
			}
			continue
		}
		state := "ok"
		switch {
		case i.Error != "":
			state = excerpt([]byte(i.Error))
		case i.Paused:
			state = "paused"
		}
		zone := i.TimeZone
		if zone == "" {
			zone = "UTC"
		}
		t.row(i.Name, i.Cron, zone, moment(i.Next), moment(i.Last), strconv.FormatInt(i.Published, 10),
			strconv.FormatInt(i.Skipped, 10), strconv.FormatInt(i.Failed, 10), state)
	}
	if a.json {
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.Out, "no schedules")
		return err
	}
	_, err := fmt.Fprint(a.Out, t)
	return err
}
