// Package live draws on a terminal what changes while a person watches.
//
// A Screen is the whole terminal, on its alternate screen, with the keys; Run
// shows a View on it: it fetches a value again and again and draws each. A
// Block is some lines at the cursor, for a command that goes on printing below
// them. Both draw Lines; a Table makes them from rows and fits them into the
// width that there is.
//
// It is written by hand: what it needs of a terminal is fifteen escape
// sequences that everything since the VT100 family knows.
package live

import (
	"context"
	"os"
	"time"
)

const (
	// Least time between two drawings, and between two attempts after a failure.
	frameTime = 50 * time.Millisecond
	retryTime = 500 * time.Millisecond
	// A view is drawn as often also when nothing comes: it shows ages.
	idleTime = time.Second
)

// View is something to watch. Its functions, but for Fetch, are called by Run
// and nobody else, one at a time; they may change the View.
type View[T any] struct {
	// Fetch asks for the next value, one call at a time. Its context ends
	// with Run and with Refetch.
	Fetch func(context.Context) (T, error)
	// First is a value that is there already; nil: none is.
	First *T
	// Interval is from the beginning of one Fetch to the beginning of the
	// next. 0 is for a Fetch that waits for a change itself.
	Interval time.Duration
	// Paused keeps Run from fetching.
	Paused bool
	// Draw makes a picture; what is longer or wider than the screen is cut.
	Draw func(*State[T]) []Line
	// Key is told of each key but those that Run handles: Ctrl-C, Ctrl-L and
	// Ctrl-Z. nil: q and Escape quit.
	Key func(Key) Action
}

// State is what there is to draw.
type State[T any] struct {
	Status
	Value T // of the last Fetch that succeeded
}

// Status is how things stand with the fetching and the screen.
type Status struct {
	At      time.Time // when the value came; zero: none has yet
	Err     error     // of the last Fetch; nil after a success
	Failing time.Time // since when they fail
	Asked   time.Time // when the Fetch that is under way began; zero: none is

	Paused        bool
	Now           time.Time
	Width, Height int
}

// Action is what a key leads to.
type Action uint8

// Actions.
const (
	Ignore  Action = iota
	Redraw         // show a change of the view's own
	Refetch        // give up the Fetch that is under way and begin another now
	Quit
)

// Run shows v on s until a key quits or ctx ends, both of which are no error,
// and closes s.
func Run[T any](ctx context.Context, s *Screen, v *View[T]) error {
	r := &running[T]{s: s, v: v, results: make(chan result[T], 1), timer: time.NewTimer(0), dirty: true}
	defer r.stop()
	if v.First != nil {
		now := time.Now()
		r.state.Value, r.state.At = *v.First, now
		r.next = now.Add(v.Interval)
	}
	for {
		r.begin(ctx)
		r.timer.Reset(r.sleep())
		select {
		case <-ctx.Done():
			return nil
		case k := <-s.keys:
			if r.key(ctx, k) == Quit {
				return nil
			}
		case sig := <-s.signals:
			if err := s.signal(sig); err != nil {
				return err
			}
			r.dirty = true
		case res := <-r.results:
			r.take(res)
		case <-r.timer.C:
		}
		if err := r.draw(); err != nil {
			return err
		}
	}
}

// running is one Run.
type running[T any] struct {
	s     *Screen
	v     *View[T]
	state State[T]

	results chan result[T]
	cancel  context.CancelFunc // of the Fetch that is under way; nil: none is
	next    time.Time          // when the next begins

	timer *time.Timer
	drawn time.Time
	dirty bool // there is something to draw
}

type result[T any] struct {
	value T
	err   error
}

// begin starts a Fetch if it is time to.
func (r *running[T]) begin(ctx context.Context) {
	now := time.Now()
	if r.cancel != nil || r.v.Paused || now.Before(r.next) {
		return
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.state.Asked = now
	fetch, results := r.v.Fetch, r.results
	go func() {
		value, err := fetch(ctx)
		results <- result[T]{value, err} // has room: there is one at a time
	}()
}

// take notes what a Fetch brought.
func (r *running[T]) take(res result[T]) {
	now := time.Now()
	r.cancel()
	r.cancel = nil
	r.next = r.state.Asked.Add(r.v.Interval)
	r.state.Asked = time.Time{}
	r.dirty = true
	if res.err != nil {
		if r.state.Err == nil {
			r.state.Failing = now
		}
		r.state.Err = res.err
		if least := now.Add(retryTime); r.next.Before(least) {
			r.next = least
		}
		return
	}
	r.state.Value, r.state.At, r.state.Err, r.state.Failing = res.value, now, nil, time.Time{}
}

func (r *running[T]) key(ctx context.Context, k Key) Action {
	switch k {
	case CtrlC:
		return Quit
	case CtrlL:
		r.s.stale = true
		r.dirty = true
		return Redraw
	case CtrlZ:
		r.s.suspend()
		r.dirty = true
		return Redraw
	default:
	}
	if r.v.Key == nil {
		if k == 'q' || k == Escape {
			return Quit
		}
		return Ignore
	}
	a := r.v.Key(k)
	r.dirty = r.dirty || a != Ignore
	if a == Refetch {
		r.abandon()
		r.next = time.Time{}
		r.begin(ctx)
	}
	return a
}

// abandon gives up the Fetch that is under way and waits for it.
func (r *running[T]) abandon() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	<-r.results
	r.cancel = nil
	r.state.Asked = time.Time{}
}

// sleep is how long nothing is to be done unless something happens.
func (r *running[T]) sleep() time.Duration {
	now := time.Now()
	d := idleTime
	if r.dirty {
		d = min(d, r.drawn.Add(frameTime).Sub(now))
	}
	if r.cancel == nil && !r.v.Paused {
		d = min(d, r.next.Sub(now))
	}
	return max(d, 0)
}

// draw draws if there is something to be seen and the last drawing is not of
// this moment.
func (r *running[T]) draw() error {
	now := time.Now()
	since := now.Sub(r.drawn)
	if !r.dirty && since < idleTime || since < frameTime {
		return nil
	}
	r.drawn, r.dirty = now, false
	r.state.Now, r.state.Paused = now, r.v.Paused
	r.state.Width, r.state.Height = r.s.Size()
	return r.s.draw(r.v.Draw(&r.state))
}

// stop gives the terminal back before anything that may take its time.
func (r *running[T]) stop() {
	r.timer.Stop()
	_ = r.s.Close() // there is no terminal any more to show an error on
	r.abandon()
}

// Terminal returns w as a terminal, or nil if it is none.
func Terminal(w any) *os.File {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return nil
	}
	return f
}
