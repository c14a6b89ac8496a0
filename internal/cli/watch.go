package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
)

// minInterval keeps --watch from becoming a load test.
const minInterval = 50 * time.Millisecond

// watching adds --watch to a command that shows a state.
type watching struct {
	on       bool
	interval time.Duration
}

func (w *watching) flags(cmd *cobra.Command, often string) {
	cmd.Flags().BoolVarP(&w.on, "watch", "w", false, "show it as it changes, until Ctrl-C")
	cmd.Flags().DurationVar(&w.interval, "interval", time.Second, often)
}

func checkInterval(d time.Duration) error {
	if d < minInterval {
		return &failure{status: StatusUsage, err: fmt.Errorf("--interval must be at least %v, is %v", minInterval, d)}
	}
	return nil
}

// shown is a state that a command shows once, or again and again.
type shown[T any] struct {
	title string
	fetch func(context.Context) (T, error)
	text  func(T) (string, error)              // the whole of it
	lines func(state T, width int) []live.Line // likewise, for a person who watches
	// changes is what a program that watches is told.
	changes func(T) (string, error)
	// waits says that fetch, but for the first, waits for a change itself.
	waits bool
}

// show shows a state once, or until ctx is interrupted. While watching, an
// error after the first success is shown and the next try made.
func show[T any](ctx context.Context, a *app, w *watching, what *shown[T]) error {
	if !w.on {
		return a.showOnce(ctx, func(ctx context.Context) (string, error) { return fetched(ctx, what.fetch, what.text) })
	}
	if err := checkInterval(w.interval); err != nil {
		return err
	}
	if out := live.Terminal(a.Out); out != nil && !a.json {
		return watchLive(ctx, a, w, what)
	}
	changes := func(ctx context.Context) (string, error) { return fetched(ctx, what.fetch, what.changes) }
	if err := a.showOnce(ctx, changes); err != nil {
		return err
	}
	if what.waits {
		return a.eachChange(ctx, w.interval, changes)
	}
	return a.eachInterval(ctx, w.interval, changes)
}

func fetched[T any](ctx context.Context, fetch func(context.Context) (T, error), text func(T) (string, error)) (string, error) {
	state, err := fetch(ctx)
	if err != nil {
		return "", err
	}
	return text(state)
}

func (a *app) showOnce(ctx context.Context, render func(context.Context) (string, error)) error {
	text, err := render(ctx)
	if err == nil {
		_, err = fmt.Fprint(a.Out, text)
	}
	return err
}

// eachChange is eachInterval for a render that waits for a change itself. The
// interval is before the next attempt after an error.
func (a *app) eachChange(ctx context.Context, interval time.Duration, render func(context.Context) (string, error)) error {
	for {
		text, err := render(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was interrupted, as is meant
		}
		if err != nil {
			a.say("cannot be shown now: %v", err)
			select {
			case <-ctx.Done():
			case <-time.After(interval):
			}
			continue
		}
		if _, err := fmt.Fprint(a.Out, text); err != nil {
			return err
		}
	}
}

// eachInterval prints what render returns until ctx is interrupted. Its errors
// go where they do not disturb a program that reads.
func (a *app) eachInterval(ctx context.Context, interval time.Duration, render func(context.Context) (string, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		text, err := render(once)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.say("cannot be shown now: %v", err)
			continue
		}
		if _, err := fmt.Fprint(a.Out, text); err != nil {
			return err
		}
	}
}

// bounded is fetch with a limit in time.
func bounded[T any](fetch func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		return fetch(ctx)
	}
}

// watchLive is --watch on a terminal.
func watchLive[T any](ctx context.Context, a *app, w *watching, what *shown[T]) error {
	// What cannot be reached at all is an error of the command line, which
	// is to stay on the terminal.
	fetch := bounded(what.fetch)
	first, err := fetch(ctx)
	if err != nil {
		return err
	}
	screen, err := live.Open(a.In, live.Terminal(a.Out))
	if err != nil {
		return err
	}
	interval := w.interval
	if what.waits {
		fetch, interval = what.fetch, 0
	}
	var scroll live.Scroll
	v := &live.View[T]{
		Interval: interval,
		Fetch:    fetch,
		First:    &first,
		Draw: func(s *live.State[T]) []live.Line {
			lines := a.heading(strings.TrimSpace("lockkeeper "+what.title), interval, &s.Status)
			lines = append(lines, live.Line{})
			if s.At.IsZero() {
				return lines
			}
			table := what.lines(s.Value, s.Width)
			lines = append(lines, scroll.Lines(table, s.Height-len(lines)-1)...)
			return live.Foot(lines, s.Height, "q quits, arrows scroll"+scroll.Rest(len(table)-1))
		},
		Key: func(k live.Key) live.Action {
			if k == 'q' || k == live.Escape {
				return live.Quit
			}
			return scroll.Key(k)
		},
	}
	return live.Run(ctx, screen, v)
}

// heading is what the top of a screen says: what is shown, of which server,
// and whether the server answers. An interval of 0 is for what is fetched as it
// changes: there an answer may take its time.
func (a *app) heading(title string, interval time.Duration, s *live.Status) []live.Line {
	at, often := s.Now.Format(time.TimeOnly), fmt.Sprintf("every %v", interval)
	if interval == 0 {
		often = "as it changes"
	}
	if s.Paused {
		at, often = s.At.Format(time.TimeOnly), "paused"
	}
	lines := []live.Line{{Text: fmt.Sprintf("%s  %s  %s  %s", title, at, often, a.shownURL()), Style: live.Reverse}}
	switch {
	case s.Err != nil:
		lines = append(lines, live.Line{Style: live.Alarm, Text: fmt.Sprintf(
			"no answer for %s; trying again: %v", brief(s.Now.Sub(s.Failing).Truncate(time.Second)), shortest(s.Err))})
	case interval > 0 && !s.Asked.IsZero() && s.Now.Sub(s.Asked) > slowAnswer:
		lines = append(lines, live.Line{Style: live.Alarm, Text: fmt.Sprintf(
			"asked %s ago, no answer yet", brief(s.Now.Sub(s.Asked).Truncate(time.Second)))})
	}
	return lines
}

// slowAnswer is after how long a person wants to know that an answer is late.
const slowAnswer = 2 * time.Second

// shownURL is the URL without a password.
func (a *app) shownURL() string {
	u, err := url.Parse(a.url)
	if err != nil {
		return "(an URL that cannot be read)"
	}
	return u.Redacted()
}

// shortest says what is wrong in as few words as fit a line: the way to it is
// known to a person who watches.
func shortest(err error) error {
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		return number
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it takes more than %v", requestTimeout)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
