package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
)

// consumePrefetch is how many messages are leased ahead while printing.
const consumePrefetch = 100

// settleTimeout bounds the ack of what was printed.
const settleTimeout = 10 * time.Second

// consuming is one `lockkeeper consume`.
type consuming struct {
	*app
	queue       string
	count       int // 0: no end
	idle        time.Duration
	exec        string
	concurrency int
	grace       time.Duration
}

func (a *app) consumeCommand() *cobra.Command {
	c := &consuming{app: a}
	cmd := &cobra.Command{
		Use:     "consume QUEUE",
		GroupID: groupQueues,
		Short:   "Print messages, or run a command for each",
		Long: `Print the messages of a queue, one body a line, and ack each after it was
written; or with --exec run a command for each.

It goes on until Ctrl-C, --count messages, or --idle time without one. Ctrl-C
loses nothing: what was not written is handed back at once. If standard output
is closed, as by head, what could not be written is handed back too; since a
pipe takes more than its reader may read, use --count to take just some.

With --exec, CMD is run by sh with the body on standard input. Status 0 acks;
any other is a failed attempt: the message comes back after the queue's
backoff and is dead-lettered after the last attempt. The lease is extended for
as long as CMD runs; if it is lost CMD is ended, and so is CMD if lockkeeper
is killed. On Ctrl-C running commands finish; a second Ctrl-C ends them and
hands their messages back. Environment of CMD:

  LOCKKEEPER_QUEUE         LOCKKEEPER_EXCHANGE       LOCKKEEPER_ROUTING_KEY
  LOCKKEEPER_MESSAGE_ID    LOCKKEEPER_ORDER_KEY      LOCKKEEPER_CONTENT_TYPE
  LOCKKEEPER_ATTEMPT       1 for the first
  LOCKKEEPER_TOKEN         fencing token, greater for every later attempt
  LOCKKEEPER_HEADERS       all headers, as a JSON object`,
		Example: `  lockkeeper consume mail
  lockkeeper consume mail --count 10 --idle 1s      # ten, or as many as there are
  lockkeeper consume mail --json | jq .headers
  lockkeeper consume mail --exec './send-mail.sh' --concurrency 4`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.queue = args[0]
			switch {
			case c.count < 0 || c.idle < 0 || c.grace < 0:
				return usageOf(cmd, errors.New("--count, --idle and --grace must not be negative"))
			case c.concurrency < 1 || c.concurrency > queue.MaxConcurrency:
				return usageOf(cmd, fmt.Errorf("--concurrency must be 1 to %d, is %d", queue.MaxConcurrency, c.concurrency))
			case c.exec == "" && (cmd.Flags().Changed("concurrency") || cmd.Flags().Changed("grace")):
				return usageOf(cmd, errors.New("--concurrency and --grace are for --exec"))
			case c.exec != "" && a.json:
				return usageOf(cmd, errors.New("--json is for printing, --exec has the delivery in its environment"))
			}
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.count, "count", 0, "end after so many messages; 0: do not end")
	f.DurationVar(&c.idle, "idle", 0, "end after so long without a message; 0: do not end")
	f.StringVar(&c.exec, "exec", "", "run `CMD` with sh for each message, body on standard input")
	f.IntVar(&c.concurrency, "concurrency", 1, "how many commands may run at once")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "time between SIGTERM and SIGKILL for a command that has to end")
	return cmd
}

func (c *consuming) run(ctx context.Context) (err error) {
	queues, err := c.openQueues(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	// A queue that is not there is said at once.
	probe, cancel := context.WithTimeout(ctx, requestTimeout)
	_, err = queues.Stats(probe, c.queue)
	cancel()
	if errors.Is(err, queue.ErrNotFound) {
		return fmt.Errorf("%w: declare it with: lockkeeper declare queue %s", err, c.queue)
	} else if err != nil && !errors.Is(err, queue.ErrUnsupported) {
		return err
	}
	if c.exec != "" {
		return c.execEach(ctx, queues)
	}
	return c.printEach(ctx, queues)
}

// printEach writes deliveries and acks what was written.
func (c *consuming) printEach(ctx context.Context, queues *queue.Broker) (err error) {
	// With a receiver for it, a closed standard output is an error of write
	// and not the end of the program.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	ctx, stop := interruptible(ctx)
	defer stop()
	prefetch := consumePrefetch
	if c.count > 0 {
		prefetch = min(prefetch, c.count)
	}
	consumer, err := queues.Consumer(ctx, c.queue, &queue.ConsumerOptions{Prefetch: prefetch, Consumer: consumerName()})
	if err != nil {
		return err
	}
	defer closing(&err, consumer.Close)
	out := bufio.NewWriter(c.Out)
	for n := 0; c.count == 0 || n < c.count; {
		room := consumePrefetch
		if c.count > 0 {
			room = min(room, c.count-n)
		}
		deliveries, err := c.receive(ctx, consumer, room)
		if ctx.Err() != nil || errors.Is(err, errIdle) {
			c.handBack(deliveries)
			return nil
		} else if err != nil {
			return err
		}
		written, err := c.print(out, deliveries)
		c.ack(ctx, deliveries[:written])
		n += written
		if err != nil {
			c.handBack(deliveries[written:])
			if errors.Is(err, syscall.EPIPE) {
				return nil
			}
			return fmt.Errorf("writing to standard output: %w", err)
		}
	}
	return nil
}

var errIdle = errors.New("no message came")

// receive waits for deliveries, at most for --idle.
func (c *consuming) receive(ctx context.Context, consumer *queue.Consumer, most int) ([]*queue.Delivery, error) {
	if c.idle > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.idle, errIdle)
		defer cancel()
	}
	return consumer.Receive(ctx, most)
}

// print writes deliveries and returns how many of them are certainly out: all,
// or none, for a buffer that failed to flush may have been written in part.
func (c *consuming) print(out *bufio.Writer, deliveries []*queue.Delivery) (int, error) {
	for i, d := range deliveries {
		line := append([]byte(nil), d.Message.Body...)
		if c.json {
			var err error
			if line, err = deliveryLine(d); err != nil {
				return i, err
			}
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return 0, err
		}
	}
	if err := out.Flush(); err != nil {
		return 0, err
	}
	return len(deliveries), nil
}

// ack acks what was written. It does so also after an interruption: it is
// what has been printed.
func (c *consuming) ack(ctx context.Context, deliveries []*queue.Delivery) {
	c.settle(ctx, deliveries, queue.AckVerdict(), "was printed but not acked, it will come again")
}

func (c *consuming) handBack(deliveries []*queue.Delivery) {
	c.settle(context.Background(), deliveries, queue.ReleaseVerdict(), "could not be handed back, it comes back when its lease ends")
}

// settle settles all of them at once, so that they share round trips.
func (c *consuming) settle(ctx context.Context, deliveries []*queue.Delivery, v queue.Verdict, trouble string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	done := make(chan error)
	for _, d := range deliveries {
		go func() { done <- d.Settle(ctx, v) }()
	}
	for range deliveries {
		if err := <-done; err != nil {
			c.say("a message %s: %v", trouble, err)
		}
	}
}

// consumerName tells an operator whose consumer this is.
func consumerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := fmt.Sprintf("%s/%d", host, os.Getpid())
	return name[max(0, len(name)-64):]
}
