package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// table collects rows and aligns them in columns.
type table struct {
	buf bytes.Buffer
	w   *tabwriter.Writer
}

func newTable(columns ...string) *table {
	t := &table{}
	t.w = tabwriter.NewWriter(&t.buf, 0, 8, 2, ' ', 0)
	t.row(columns...)
	return t
}

func (t *table) row(cells ...string) {
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) String() string {
	_ = t.w.Flush() // into memory
	var b strings.Builder
	for line := range strings.Lines(t.buf.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

// brief writes a duration as people read it: three digits or two units.
func brief(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + brief(-d)
	case d == 0:
		return "0s"
	case d < time.Microsecond:
		return d.String()
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// watching adds --watch to a command that shows a state.
type watching struct {
	on       bool
	interval time.Duration
}

func (w *watching) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&w.on, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&w.interval, "interval", time.Second, "how often with --watch")
}

// minInterval keeps --watch from becoming a load test.
const minInterval = 50 * time.Millisecond

// show prints what render returns, once or until ctx is interrupted. While
// watching, an error after the first success is shown and the next try made.
func (a *app) show(ctx context.Context, w *watching, render func(context.Context) (string, error)) error {
	if w.on && w.interval < minInterval {
		return &failure{status: StatusUsage, err: fmt.Errorf("--interval must be at least %v, is %v", minInterval, w.interval)}
	}
	text, err := render(ctx)
	if err != nil {
		return err
	}
	if !w.on {
		_, err := fmt.Fprint(a.Out, text)
		return err
	}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		if err := a.redraw(text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		text, err = render(once)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			text = fmt.Sprintf("cannot be shown now: %v\n", err)
			if a.json {
				a.say("%v", err)
				text = ""
			}
		}
	}
}

// redraw replaces the screen of a terminal; elsewhere each state follows the
// one before.
func (a *app) redraw(text string) error {
	if isTerminal(a.Out) && !a.json {
		text = "\x1b[H\x1b[2J" + time.Now().Format(time.TimeOnly) + "  " + a.url + "  (Ctrl-C ends)\n\n" + text
	} else if !a.json {
		text += "\n"
	}
	_, err := fmt.Fprint(a.Out, text)
	return err
}
