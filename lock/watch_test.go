package lock_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// tells has the fake's watches tell what a first state is: of the name "a",
// held with a token, or free if that is 0.
func (f *fake) tells(token lease.Token) {
	f.events <- driver.Event{Kind: driver.EventReset}
	if token != 0 {
		f.events <- driver.Event{Kind: driver.EventState, Info: heldWith(token)}
	}
	f.events <- driver.Event{Kind: driver.EventSynced}
}

func heldWith(token lease.Token) driver.Info {
	return driver.Info{Name: "a", Grants: []driver.GrantInfo{{Holder: "h", Token: token}}}
}

// faults makes faults for calls of several ops, each in order.
func (f *fake) faults(all map[string][]fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = func(op string) fault {
		if len(all[op]) == 0 {
			return none
		}
		next := all[op][0]
		all[op] = all[op][1:]
		return next
	}
}

// A watch that breaks is ended and begun again until that succeeds, and what
// it tells then follows on what was told before.
func TestWatchBeginsAgain(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		b.tells(1)
		var kinds []lock.EventKind
		var last lock.Token
		for e, err := range l.Watch(t.Context(), "a") {
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, e.Kind)
			if e.Kind == lock.EventState {
				last = e.Info.Grants[0].Token
			}
			if e.Kind == lock.EventSynced && last == 2 {
				break
			}
			if e.Kind == lock.EventSynced {
				b.tells(2)
				b.faults(map[string][]fault{"next": {away, lost}, "watch": {away, lost, away}})
			}
		}
		one := []lock.EventKind{lock.EventReset, lock.EventState, lock.EventSynced}
		if want := slices.Concat(one, one); !slices.Equal(kinds, want) {
			t.Errorf("told %v, want %v", kinds, want)
		}
		// One at first, three that cannot begin, one whose first Next fails,
		// and the last.
		if begun, ended := len(b.made("watch")), len(b.made("unwatch")); begun != 6 || ended != begun-3 {
			t.Errorf("%d watches were begun, 3 in vain, and %d ended", begun, ended)
		}
	})
}

// A backend that is away for long is asked ever less often, and at once again
// after a success.
func TestWatchBacksOff(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		b.always(away)
		over := make(chan time.Duration, 1)
		var back time.Time
		go func() {
			for _, err := range l.Watch(t.Context(), "") {
				if err != nil {
					t.Error(err)
				}
				break
			}
			over <- time.Since(back)
		}()
		<-time.After(time.Minute)
		if n := len(b.made("watch")); n < 20 || n > 100 {
			t.Errorf("asked %d times in a minute", n)
		}
		back = time.Now()
		b.tells(1)
		b.always(none)
		if late := <-over; late > 5*time.Second {
			t.Errorf("it was back %v after the backend", late)
		}
	})
}

// Observe tells a change that fell into a gap, once, and nothing if there was
// none.
func TestObserveOverABreak(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		var told []lock.Token
		b.tells(1)
		for leader, err := range l.Observe(t.Context(), "a") {
			if err != nil {
				t.Fatal(err)
			}
			switch told = append(told, leader.Token); leader.Token {
			case 1:
				b.faults(map[string][]fault{"next": {away}})
				b.tells(1) // as it was
				b.events <- driver.Event{Kind: driver.EventState, Info: heldWith(2)}
			case 2:
				b.faults(map[string][]fault{"next": {away}, "watch": {away}})
				b.tells(0)
				b.events <- driver.Event{Kind: driver.EventState, Info: heldWith(3)}
			}
			if leader.Token == 3 {
				break
			}
		}
		if want := []lock.Token{1, 2, 0, 3}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// What a watch ends with, at once, whatever it does just then; and it leaves
// nothing behind.
func TestWatchEnds(t *testing.T) {
	for what, set := range map[string]func(b *fake){
		"while it listens":    func(*fake) {},
		"while it is begun":   func(b *fake) { b.faults(map[string][]fault{"watch": {hangs}}) },
		"while Next hangs":    func(b *fake) { b.faults(map[string][]fault{"next": {hangs}}) },
		"between attempts":    func(b *fake) { b.always(away) },
		"the beginning fails": func(b *fake) { b.faults(map[string][]fault{"watch": {lost, hangs}}) },
	} {
		t.Run(what, func(t *testing.T) {
			for cause, end := range map[error]func(l *lock.Locker, cancel func()){
				context.Canceled: func(_ *lock.Locker, cancel func()) { cancel() },
				lock.ErrClosed:   func(l *lock.Locker, _ func()) { _ = l.Close() },
			} {
				run(t, func(t *testing.T, l *lock.Locker, b *fake) {
					set(b)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					over := make(chan error, 1)
					go func() {
						for _, err := range l.Watch(ctx, "a") {
							over <- err
						}
					}()
					<-time.After(10*time.Second + time.Microsecond) // between attempts, where there are such
					synctest.Wait()
					at := time.Now()
					end(l, cancel)
					if err := <-over; !errors.Is(err, cause) {
						t.Errorf("it ended with %v, want %v", err, cause)
					}
					if late := time.Since(at); late > 0 {
						t.Errorf("it ended %v late because of %v", late, cause)
					}
				})
			}
		})
	}
}

// Errors that another attempt would not mend end a watch.
func TestWatchRefused(t *testing.T) {
	run(t, func(t *testing.T, l *lock.Locker, b *fake) {
		b.on("next", displaced)
		n := 0
		for e, err := range l.WatchName(t.Context(), "a") {
			n++
			if e != nil {
				t.Errorf("told %v", e)
			}
			wantErr(t, "the watch", err, lock.ErrAlreadyHeld)
		}
		if begun, ended := len(b.made("watch")), len(b.made("unwatch")); n != 1 || begun != 1 || ended != 1 {
			t.Errorf("%d results, %d watches begun, %d ended; want 1 each", n, begun, ended)
		}
	})
}
