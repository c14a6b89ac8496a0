package kafka

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
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

// consumers are processes that print what they handle to one pipe, so that it is
// known what was first.
type consumers struct {
	env string
	out *os.File
}

func newConsumers(t *testing.T, tr *traffic, url string) *consumers {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			key, body, _ := strings.Cut(lines.Text(), " ")
			tr.note(key, body)
		}
	}()
	t.Cleanup(func() {
		w.Close()
		<-read
		r.Close()
	})
	return &consumers{env: consumerEnv + "=" + url + "\n" + tr.name, out: w}
}

// start starts one, which is killed when the test ends.
func (cs *consumers) start(t *testing.T) *child.Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), cs.env)
	cmd.Stdout, cmd.Stderr = cs.out, os.Stderr
	p, err := child.Start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

// TestConsumerKilled kills one of two processes that consume, and starts another
// when the one that is left has its partitions.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?session=" + shortSession.String()
	pub := openBroker(t, url)
	tr := newTraffic(t, pub, "consumer killed")
	cs := newConsumers(t, tr, url)
	running := []*child.Process{cs.start(t), cs.start(t)}
	tr.run(pub, func(context.Context) {
		for i := range times(t) {
			tr.progress(100)
			p := running[i%2]
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			tr.progressOfAll()
			running[i%2] = cs.start(t)
		}
	})
}
