package lock

import (
	"context"
	"iter"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Watch tells what becomes of the names that begin with prefix, until ctx ends
// or the caller breaks off. It begins with EventReset, the state of each name
// and EventSynced; from then on it tells the state of each name that has
// changed. It tells states and not histories: of a name that changes faster
// than the caller comes for the next event, only the last state is told. When
// the backend was away, or the caller too slow for what the backend keeps, it
// begins anew with EventReset. The last it yields is an error. It needs
// Caps.Watch.
func (l *Locker) Watch(ctx context.Context, prefix string) iter.Seq2[*Event, error] {
	return l.watch(ctx, driver.WatchRequest{Prefix: prefix})
}

// WatchName is Watch of exactly one name.
func (l *Locker) WatchName(ctx context.Context, name string) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		if err := driver.ValidateName("name", name); err != nil {
			yield(nil, wrap("watch lock", name, err))
			return
		}
		l.watch(ctx, driver.WatchRequest{Name: name})(yield)
	}
}

func (l *Locker) watch(ctx context.Context, r driver.WatchRequest) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		w := watching{locker: l, request: r}
		defer w.end()
		for failures := 0; ; {
			events, err := w.next(ctx)
			for i := range events {
				if !yield(&events[i], nil) {
					return
				}
			}
			switch {
			case err == nil:
				failures = 0
				continue
			case ctx.Err() != nil:
				err = ended(ctx)
			case transient(err):
				w.end()
				l.logger.Debug("watch of locks failed", "name", r.Name, "prefix", r.Prefix, "err", err)
				failures++
				if err = w.pause(ctx, failures-1); err == nil {
					continue
				}
			}
			yield(nil, wrap("watch locks", r.Name+r.Prefix, err))
			return
		}
	}
}

// watching is a watch that begins when it is first asked, and again after end.
type watching struct {
	locker  *Locker
	request driver.WatchRequest
	watcher driver.Watcher // nil: not begun
}

// next waits for events.
func (w *watching) next(ctx context.Context) ([]Event, error) {
	l := w.locker
	if !l.caps.Watch {
		return nil, ErrUnsupported
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if w.watcher == nil {
		begun, err := l.conn.Watch(ctx, &w.request)
		if err != nil {
			return nil, closedOr(ctx, err)
		}
		w.watcher = begun
	}
	events, err := w.watcher.Next(ctx)
	return events, closedOr(ctx, err)
}

// pause is before the next attempt after n others have failed. Close ends it,
// too.
func (w *watching) pause(ctx context.Context, n int) error {
	ctx, leave, err := w.locker.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !backoff(ctx, n) {
		return ended(ctx)
	}
	return nil
}

func (w *watching) end() {
	if w.watcher != nil {
		_ = w.watcher.Close() // there is nothing more to be had from it
		w.watcher = nil
	}
}

// closedOr returns ErrClosed instead of err if Close ended ctx.
func closedOr(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == ErrClosed { //nolint:errorlint // enter gave it
		return ErrClosed
	}
	return err
}
