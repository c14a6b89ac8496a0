package kafka

import (
	"context"
	"fmt"
	"os"
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
// the key and the body of each message before it is acked.
func playConsumer() bool {
	url, name, is := strings.Cut(os.Getenv(consumerEnv), "\n")
	if !is {
		return false
	}
	ctx := context.Background()
	c, err := queue.OpenConn(ctx, url)
	if err == nil {
		b := queue.New(c, quiet)
		err = b.Serve(ctx, name, func(_ context.Context, d *queue.Delivery) error {
			_, err := os.Stdout.WriteString(d.Message.OrderKey + " " + string(d.Message.Body) + "\n")
			return err
		}, &queue.ServeOptions{Concurrency: 8, Prefetch: 50})
	}
	fmt.Fprintln(os.Stderr, "the consumer ends:", err)
	return true
}

// TestConsumerKilled kills one of two processes that consume, and starts another
// when the one that is left has its partitions.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?session=" + shortSession.String()
	pub := openBroker(t, url)
	tr := newTraffic(t, pub, "consumer killed")
	out := drivertest.Lines(t, func(line string) {
		key, body, _ := strings.Cut(line, " ")
		tr.note(key, body)
	})
	start := func() *child.Process { return drivertest.StartItself(t, consumerEnv+"="+url+"\n"+tr.name, out) }
	running := []*child.Process{start(), start()}
	tr.run(pub, func(context.Context) {
		for i := range times(t) {
			tr.progress(100)
			p := running[i%2]
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			tr.progressOfAll()
			running[i%2] = start()
		}
	})
}
