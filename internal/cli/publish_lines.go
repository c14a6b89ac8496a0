package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

const (
	// confirmTimeout is how long an interrupted --lines waits for the
	// confirms of what it has sent.
	confirmTimeout = 10 * time.Second
	// lineWindow bounds how far sending runs ahead of the confirms counted.
	lineWindow = 4096
	// maxShownErrors keeps a common error from filling the terminal.
	maxShownErrors = 10
)

// lineTally counts what became of the lines. One goroutine owns it.
type lineTally struct {
	confirmed, duplicates, dropped, failed int
	firstFailed                            int // its line; 0: none
	firstErr                               error
}

// sent is a message on its way, with the line it comes from.
type sent struct {
	pending *queue.Pending
	line    int
}

// publishLines pipelines the lines of standard input: one goroutine reads,
// this one sends, one counts the confirms.
func (p *publishing) publishLines(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	queues, err := p.openQueues(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	publisher := queues.Publisher(&queue.PublisherOptions{Optional: !p.mandatory})

	began := time.Now()
	flight := make(chan sent, lineWindow)
	counted := make(chan *lineTally, 1)
	confirmCtx, cancelConfirms := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelConfirms()
	go func() { counted <- p.count(confirmCtx, flight, began) }()

	n, sendErr := p.sendLines(ctx, publisher, flight)
	close(flight)
	if ctx.Err() != nil {
		timer := time.AfterFunc(confirmTimeout, cancelConfirms)
		defer timer.Stop()
	}
	tally := <-counted
	closeErr := publisher.Close()
	if tally.failed == 0 && sendErr == nil && closeErr != nil {
		sendErr = closeErr
	}
	return p.conclude(ctx, tally, n, time.Since(began), sendErr)
}

// sendLines sends until the input or ctx ends and returns how many it sent.
func (p *publishing) sendLines(ctx context.Context, publisher *queue.Publisher, flight chan<- sent) (int, error) {
	lines := readLines(ctx, p.In)
	n := 0
	for {
		var l line
		select {
		case l = <-lines:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
		if errors.Is(l.err, io.EOF) {
			return n, nil
		} else if l.err != nil {
			return n, l.err
		}
		pending, err := publisher.Send(ctx, p.route, p.lineMessage(l.body, l.number))
		if err != nil {
			return n, fmt.Errorf("line %d: %w", l.number, err)
		}
		n++
		flight <- sent{pending, l.number}
	}
}

type line struct {
	body   []byte
	number int
	err    error
}

// readLines reads ahead, so that an interruption need not wait for input. Its
// goroutine ends with the input, or with the process if that never comes.
func readLines(ctx context.Context, in io.Reader) <-chan line {
	out := make(chan line, 64)
	go func() {
		src := newLineSource(in)
		for {
			body, number, err := src.next()
			select {
			case out <- line{body, number, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// count waits for the confirms and shows progress on a terminal.
func (p *publishing) count(ctx context.Context, flight <-chan sent, began time.Time) *lineTally {
	t := &lineTally{}
	progress := newProgress(p.Err)
	defer progress.clear()
	for s := range flight {
		receipt, err := s.pending.Receipt(ctx)
		switch {
		case err != nil:
			t.failed++
			if t.firstErr == nil {
				t.firstFailed, t.firstErr = s.line, err
			}
			if t.failed <= maxShownErrors {
				progress.clear()
				p.say("line %d: %v", s.line, err)
			}
		case receipt.Duplicate:
			t.confirmed++
			t.duplicates++
		case receipt.Queues == 0:
			t.dropped++
		default:
			t.confirmed++
		}
		progress.show(func() string {
			return fmt.Sprintf("%d confirmed, %s", t.confirmed, rate(t.confirmed, time.Since(began)))
		})
	}
	return t
}

// linesJSON is what `publish --lines --json` prints at the end.
type linesJSON struct {
	Sent       int   `json:"sent"`
	Confirmed  int   `json:"confirmed"`
	Duplicates int   `json:"duplicates"`
	Dropped    int   `json:"dropped"`
	Failed     int   `json:"failed"`
	ElapsedMS  int64 `json:"elapsed_ms"`
}

// conclude reports the counts and returns the error of the whole.
func (p *publishing) conclude(ctx context.Context, t *lineTally, sent int, took time.Duration, sendErr error) error {
	if p.json {
		if err := p.printJSON(linesJSON{sent, t.confirmed, t.duplicates, t.dropped, t.failed, took.Milliseconds()}); err != nil {
			return err
		}
	} else {
		text := fmt.Sprintf("%d of %s confirmed in %s, %s", t.confirmed, plural(int64(sent), "message"), brief(took), rate(t.confirmed, took))
		if t.duplicates > 0 {
			text += fmt.Sprintf("; %d had been published before", t.duplicates)
		}
		p.say("%s", text)
	}
	if t.dropped > 0 {
		p.say("%s matched no queue and were dropped (--mandatory makes this an error)", plural(int64(t.dropped), "message"))
	}
	again := ""
	if p.message.ID == "" {
		again = " (with --id and a dedup window a whole input can be published again safely)"
	}
	switch {
	case t.failed > 0:
		return fmt.Errorf("%s not confirmed, the first is line %d: %w%s", plural(int64(t.failed), "message"), t.firstFailed, t.firstErr, again)
	case interrupted(ctx) != nil:
		return fmt.Errorf("%w: %s sent, the input was not read to its end%s", interrupted(ctx), plural(int64(sent), "line"), again)
	}
	return sendErr
}

func rate(n int, d time.Duration) string {
	if d <= 0 {
		d = time.Nanosecond
	}
	return fmt.Sprintf("%.0f/s", float64(n)/d.Seconds())
}
