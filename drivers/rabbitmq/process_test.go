package rabbitmq

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue"
)

// consumerEnv makes the test binary a consumer: a URL and a queue, one a line.
const consumerEnv = "LOCKKEEPER_TEST_CONSUMER"

// playConsumer reports whether this process is one; then it is over. It prints
// the number of each message, and which attempt it is, before the ack.
func playConsumer() bool {
	url, name, is := strings.Cut(os.Getenv(consumerEnv), "\n")
	if !is {
		return false
	}
	ctx := context.Background()
	c, err := queue.OpenConn(ctx, url)
	if err == nil {
		err = queue.New(c, quiet).Serve(ctx, name, func(_ context.Context, d *queue.Delivery) error {
			_, err := fmt.Fprintf(os.Stdout, "%s %d\n", d.Message.Body, d.Attempt)
			return err
		}, &queue.ServeOptions{Concurrency: 1, Prefetch: servePrefetch})
	}
	fmt.Fprintln(os.Stderr, "the consumer ends:", err)
	return true
}

// TestConsumerKilled kills one of two processes that consume, the active one or
// the other, and starts another. The one that is left goes on where it was.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	url := "amqp://" + realserver.SharedRabbitMQ(t).Addr() + fast
	pub := openBroker(t, url)
	tr := newTraffic(t, pub, "consumer killed")
	out := drivertest.Lines(t, func(line string) {
		number, attempt, _ := strings.Cut(line, " ")
		n, err1 := strconv.Atoi(number)
		a, err2 := strconv.Atoi(attempt)
		if err1 != nil || err2 != nil {
			t.Errorf("a consumer says %q", line)
		}
		tr.note(n, a)
	})
	start := func() *child.Process { return drivertest.StartItself(t, consumerEnv+"="+url+"\n"+tr.name, out) }
	running := []*child.Process{start(), start()}
	tr.send(pub, func() {
		for i := range times(t) {
			tr.progress(100)
			p := running[i%2]
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			tr.progress(100)
			running[i%2] = start()
		}
		tr.progress(100)
	})
}
