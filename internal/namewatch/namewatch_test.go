package namewatch_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/namewatch"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// backend has the states that a test gives it.
type backend struct {
	states map[string]*driver.Info
	asked  int
	err    error
}

func (b *backend) source() namewatch.Source {
	return namewatch.Source{
		Find: func(context.Context) ([]string, error) {
			var names []string
			for n := range b.states {
				names = append(names, n)
			}
			return names, nil
		},
		States: func(_ context.Context, names []string) ([]*driver.Info, error) {
			b.asked++
			if b.err != nil {
				return nil, b.err
			}
			out := make([]*driver.Info, len(names))
			for i, n := range names {
				out[i] = b.states[n]
			}
			return out, nil
		},
		Due:    func(*driver.Info) time.Time { return time.Now().Add(time.Hour) },
		Rescan: time.Hour, Batch: 10,
	}
}

func held(name string, token lease.Token) *driver.Info {
	return &driver.Info{Name: name, Grants: []driver.GrantInfo{{Holder: "h", Token: token}}}
}

func kinds(t *testing.T, w *namewatch.Watch, want ...driver.EventKind) {
	t.Helper()
	events, err := w.Next(t.Context())
	if err != nil || len(events) != len(want) {
		t.Fatalf("got %v, %v; want %v", events, err, want)
	}
	for i := range want {
		if events[i].Kind != want[i] {
			t.Errorf("event %d is %v, want %v", i, events[i].Kind, want[i])
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	b := &backend{states: map[string]*driver.Info{"a/1": held("a/1", 1)}}
	ended := make(chan struct{})
	w := namewatch.New(&driver.WatchRequest{Prefix: "a/"}, ended, b.source())
	kinds(t, w, driver.EventReset, driver.EventState, driver.EventSynced)

	b.states["a/1"] = held("a/1", 2)
	b.states["b"] = held("b", 1)
	w.Note("b") // is not watched
	w.Note("a/1")
	w.Note("a/1")
	kinds(t, w, driver.EventState)

	asked := b.asked
	w.Note("a/1") // for nothing
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if events, err := w.Next(short); !errors.Is(err, context.DeadlineExceeded) || b.asked != asked+1 {
		t.Errorf("a hint for nothing: %v, %v after %d looks", events, err, b.asked-asked)
	}

	delete(b.states, "a/1")
	b.err = lease.ErrUnknown
	w.Note("a/1")
	if _, err := w.Next(t.Context()); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("a look that failed: %v", err)
	}
	b.err = nil
	kinds(t, w, driver.EventGone) // the hint is not lost

	close(ended)
	if _, err := w.Next(t.Context()); !errors.Is(err, lease.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
