package rabbitmq

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
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

// startConsumer starts one, which is killed when the test ends. All print to one
// pipe, so that it is known who was first.
func startConsumer(t *testing.T, url, name string, out *os.File) *child.Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe) // the test binary itself; it is stopped by the clean-up
	cmd.Env = append(os.Environ(), consumerEnv+"="+url+"\n"+name)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	p, err := child.Start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

// handled notes what consumers print to the file that it returns.
func (tr *traffic) handled() *os.File {
	tr.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tr.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			number, attempt, _ := strings.Cut(lines.Text(), " ")
			n, err1 := strconv.Atoi(number)
			a, err2 := strconv.Atoi(attempt)
			if err1 != nil || err2 != nil {
				tr.t.Errorf("a consumer says %q", lines.Text())
			}
			tr.note(n, a)
		}
	}()
	tr.t.Cleanup(func() {
		w.Close() // the processes are gone
		<-read
		r.Close()
	})
	return w
}

// TestConsumerKilled kills one of two processes that consume, the active one or
// the other, and starts another. The one that is left goes on where it was.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	url := "amqp://" + realserver.SharedRabbitMQ(t).Addr() + fast
	pub := openBroker(t, url)
	tr := newTraffic(t, pub, "consumer killed")
	out := tr.handled()
	running := []*child.Process{startConsumer(t, url, tr.name, out), startConsumer(t, url, tr.name, out)}
	tr.send(pub, func() {
		for i := range times(t) {
			tr.progress(100)
			p := running[i%2]
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			tr.progress(100)
			running[i%2] = startConsumer(t, url, tr.name, out)
		}
		tr.progress(100)
	})
}
