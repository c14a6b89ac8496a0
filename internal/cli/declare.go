package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/topofile"
	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) declareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "declare",
		GroupID: groupQueues,
		Short:   "Declare one queue, exchange or binding",
		Long: `Declare one queue, exchange or binding. What exists already and is equal stays
as it is; what exists and differs is an error. For several at once, all or
nothing, see lockkeeper apply.`,
	}
	return group(cmd, a.declareQueueCommand(), a.declareExchangeCommand(), a.declareBindingCommand())
}

// humanDuration is a flag that takes days besides what Go's durations take.
type humanDuration topofile.Duration

func (d *humanDuration) String() string { return topofile.Duration(*d).Duration().String() }
func (d *humanDuration) Type() string   { return "duration" }
func (d *humanDuration) Set(s string) error {
	return (*topofile.Duration)(d).UnmarshalText([]byte(s))
}

// queueFlags are the flags of `declare queue`.
type queueFlags struct {
	lease, backoffMin, backoffMax, dedup humanDuration
	limit                                int
	deadQueue, deadExchange, deadKey     string
	bind                                 []string
	policy                               policyFlags
}

func (a *app) declareQueueCommand() *cobra.Command {
	var q queueFlags
	cmd := &cobra.Command{
		Use:   "queue NAME",
		Short: "Declare a queue",
		Example: `  lockkeeper declare queue mail
  lockkeeper declare queue payments --dead-letter payments.dead --delivery-limit 5 \
      --backoff-min 1s --backoff-max 5m --dedup-window 24h --bind shop:order.*`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := q.topology(args[0])
			if err != nil {
				return usageOf(cmd, err)
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				if err := q.addDeadQueue(ctx, queues, t); err != nil {
					return err
				}
				return a.apply(ctx, queues, &topofile.File{Topology: t}, false)
			})
		},
	}
	f := cmd.Flags()
	f.Var(&q.lease, "lease", "how long a consumer has for one message (default 30s)")
	f.IntVar(&q.limit, "delivery-limit", 0, "failed attempts before a message is dead-lettered (default 20 with a dead letter)")
	f.StringVar(&q.deadQueue, "dead-letter", "", "`QUEUE` that gets dead letters; made if it is not there")
	f.StringVar(&q.deadExchange, "dead-letter-exchange", "", "`EXCHANGE` that gets dead letters instead")
	f.StringVar(&q.deadKey, "dead-letter-key", "", "routing key of dead letters; without it they keep their own")
	f.Var(&q.backoffMin, "backoff-min", "delay after the first failed attempt (default 1s)")
	f.Var(&q.backoffMax, "backoff-max", "delay after many failed attempts (default 5m)")
	f.Var(&q.dedup, "dedup-window", "how long message ids are remembered, like 24h or 7d (default: not at all)")
	q.policy.add(cmd)
	f.StringArrayVar(&q.bind, "bind", nil, "`EXCHANGE[:KEY]` to bind the queue to; repeatable")
	return cmd
}

func (q *queueFlags) topology(name string) (*queue.Topology, error) {
	spec := queue.QueueSpec{
		Name: name, Lease: topofile.Duration(q.lease).Duration(), DeliveryLimit: q.limit,
		Backoff: queue.Backoff{
			Min: topofile.Duration(q.backoffMin).Duration(), Max: topofile.Duration(q.backoffMax).Duration(),
		},
		DedupWindow: topofile.Duration(q.dedup).Duration(),
	}
	q.policy.fill(&spec)
	switch {
	case q.deadQueue != "" && (q.deadExchange != "" || q.deadKey != ""):
		return nil, errors.New("--dead-letter excludes --dead-letter-exchange and --dead-letter-key")
	case q.deadQueue != "":
		spec.DeadLetter = &queue.Route{Key: q.deadQueue}
	case q.deadExchange != "":
		spec.DeadLetter = &queue.Route{Exchange: q.deadExchange, Key: q.deadKey}
	case q.deadKey != "":
		return nil, errors.New("--dead-letter-key needs --dead-letter-exchange")
	}
	t := &queue.Topology{Queues: []queue.QueueSpec{spec}}
	for _, b := range q.bind {
		exchange, key, _ := strings.Cut(b, ":")
		t.Bindings = append(t.Bindings, queue.Binding{Exchange: exchange, Queue: name, Key: key})
	}
	return t, nil
}

// addDeadQueue adds the queue for dead letters unless it exists, with
// whatever policy it has.
func (q *queueFlags) addDeadQueue(ctx context.Context, queues *queue.Broker, t *queue.Topology) error {
	if q.deadQueue == "" {
		return nil
	}
	_, err := queues.Stats(ctx, q.deadQueue)
	if errors.Is(err, queue.ErrNotFound) {
		t.Queues = append(t.Queues, queue.QueueSpec{Name: q.deadQueue})
		return nil
	}
	if errors.Is(err, queue.ErrUnsupported) {
		return q.addMissingDeadQueue(ctx, queues, t)
	}
	return err
}

// addMissingDeadQueue does so where there are no statistics.
func (q *queueFlags) addMissingDeadQueue(ctx context.Context, queues *queue.Broker, t *queue.Topology) error {
	have, err := queues.Topology(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(have.Queues, func(s queue.QueueSpec) bool { return s.Name == q.deadQueue }) {
		t.Queues = append(t.Queues, queue.QueueSpec{Name: q.deadQueue})
	}
	return nil
}

func (a *app) declareExchangeCommand() *cobra.Command {
	var alternate string
	cmd := &cobra.Command{
		Use:   "exchange NAME direct|fanout|topic|headers",
		Short: "Declare an exchange",
		Example: `  lockkeeper declare exchange shop topic
  lockkeeper declare exchange shop topic --alternate unrouted`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			t := &queue.Topology{Exchanges: []queue.Exchange{{Name: args[0], Kind: queue.Kind(args[1]), Alternate: alternate}}}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				return a.apply(ctx, queues, &topofile.File{Topology: t}, false)
			})
		},
	}
	cmd.Flags().StringVar(&alternate, "alternate", "", "`EXCHANGE` that gets what matches no binding of this one")
	return cmd
}

func (a *app) declareBindingCommand() *cobra.Command {
	var args map[string]string
	var toExchange bool
	cmd := &cobra.Command{
		Use:   "binding EXCHANGE QUEUE [KEY]",
		Short: "Bind a queue, or another exchange, to an exchange",
		Example: `  lockkeeper declare binding shop payments 'order.*'
  lockkeeper declare binding shop audit --to-exchange
  lockkeeper declare binding by-region eu-mail --arg region=eu --arg x-match=all`,
		Args: arguments(2, 3),
		RunE: func(cmd *cobra.Command, names []string) error {
			b := newBinding(names, args, toExchange)
			t := &queue.Topology{Bindings: []queue.Binding{b}}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				return a.apply(ctx, queues, &topofile.File{Topology: t}, false)
			})
		},
	}
	cmd.Flags().StringToStringVar(&args, "arg", nil, "`k=v` for a headers exchange; repeatable")
	cmd.Flags().BoolVar(&toExchange, "to-exchange", false, "the second name is that of an exchange, which routes on")
	return cmd
}

// newBinding makes a binding of EXCHANGE, QUEUE and perhaps KEY.
func newBinding(names []string, args map[string]string, toExchange bool) queue.Binding {
	b := queue.Binding{Exchange: names[0], Queue: names[1], Args: textHeaders(args)}
	if toExchange {
		b.Queue, b.ToExchange = "", names[1]
	}
	if len(names) == 3 {
		b.Key = names[2]
	}
	return b
}

// textHeaders makes headers of strings.
func textHeaders(m map[string]string) queue.Headers {
	if len(m) == 0 {
		return nil
	}
	h := make(queue.Headers, len(m))
	for k, v := range m {
		h[k] = v
	}
	return h
}

// plural counts things for people.
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
