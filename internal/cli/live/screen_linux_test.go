package live

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockkeeper/lockkeeper/internal/cli/live/livetest"
)

// eventually polls what the other end of a terminal has been told.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // the other end of a terminal has no channel to wait on
	}
}

func modes(t *testing.T, term *livetest.Terminal) unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(term.Program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *state
}

// watch runs v on a new terminal; the result of Run is sent when it is over.
func watch[T any](ctx context.Context, t *testing.T, v *View[T]) (*livetest.Terminal, <-chan error) {
	t.Helper()
	term := livetest.OpenTerminal(t)
	if _, err := term.Program.WriteString("what was there\r\n"); err != nil {
		t.Fatal(err)
	}
	before := modes(t, term)
	s, err := Open(term.Program, term.Program)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		err := Run(ctx, s, v)
		if modes(t, term) != before {
			t.Error("the terminal's modes are not as they were")
		}
		over <- err
	}()
	return term, over
}

func restored(t *testing.T, term *livetest.Terminal) {
	t.Helper()
	eventually(t, "the screen is as it was", func() bool { return term.String() == "what was there" })
	if m := term.Modes(); len(m) > 0 {
		t.Errorf("left behind: %v", m)
	}
}

func TestRunDrawsFetchesAndQuits(t *testing.T) {
	n := 0
	v := &View[int]{
		Interval: time.Millisecond,
		Fetch:    func(context.Context) (int, error) { n++; return n, nil },
		Draw: func(s *State[int]) []Line {
			size := fmt.Sprintf("%d x %d", s.Width, s.Height)
			return []Line{{"value " + fmt.Sprint(s.Value > 5), Bold}, {Text: size}, {Text: strings.Repeat("x", s.Width+5)}}
		},
	}
	term, over := watch(t.Context(), t, v)
	eventually(t, "values are drawn", func() bool {
		return term.String() == "value true\n80 x 24\n"+strings.Repeat("x", 79)+"…"
	})
	if m := strings.Join(term.Modes(), ", "); m != "alternate screen, no cursor, no wrapping" {
		t.Errorf("modes: %s", m)
	}
	term.Resize(30, 2)
	// Nobody's foreground: the kernel does not tell this process by itself.
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it fits the new size", func() bool { return term.String() == "value true\n30 x 2" })
	term.Press("x") // nothing
	term.Press("q")
	if err := <-over; err != nil {
		t.Error(err)
	}
	term.Resize(80, 24)
	restored(t, term)
}

func TestRunEndsWithItsContextAndCtrlC(t *testing.T) {
	for name, end := range map[string]func(*livetest.Terminal, func()){
		"context": func(_ *livetest.Terminal, cancel func()) { cancel() },
		"ctrl-c":  func(term *livetest.Terminal, _ func()) { term.Press("\x03") },
		"escape":  func(term *livetest.Terminal, _ func()) { term.Press("\x1b") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			asked := make(chan struct{})
			v := &View[int]{
				// One that hangs until it is given up.
				Fetch: func(ctx context.Context) (int, error) { close(asked); <-ctx.Done(); return 0, ctx.Err() },
				Draw:  func(*State[int]) []Line { return []Line{{Text: "drawn"}} },
			}
			term, over := watch(ctx, t, v)
			<-asked
			eventually(t, "it is drawn", func() bool { return term.String() == "drawn" })
			end(term, cancel)
			if err := <-over; err != nil {
				t.Error(err)
			}
			restored(t, term)
		})
	}
}

// Failures are shown beside the last value until they are over; a key may ask
// for something else at once.
func TestRunShowsFailuresAndRefetches(t *testing.T) {
	type ask struct {
		value string
		err   error
	}
	asks := make(chan ask)
	fetch := func(ctx context.Context) (string, error) {
		select {
		case a := <-asks:
			return a.value, a.err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	v := &View[string]{Fetch: fetch}
	v.Draw = func(s *State[string]) []Line {
		if s.Err != nil {
			return []Line{{s.Value, Dim}, {s.Err.Error(), Alarm}}
		}
		return []Line{{s.Value, Reverse}}
	}
	v.Key = func(k Key) Action {
		switch k {
		case 'r':
			v.Fetch = func(context.Context) (string, error) { v.Fetch = fetch; return "another", nil }
			return Refetch
		case 'q':
			return Quit
		default:
			return Ignore
		}
	}
	term, over := watch(t.Context(), t, v)
	asks <- ask{"first", nil}
	eventually(t, "the first", func() bool { return term.String() == "first" })
	asks <- ask{"", errors.New("away")}
	eventually(t, "the failure", func() bool { return term.String() == "first\naway" })
	asks <- ask{"second", nil}
	eventually(t, "the second", func() bool { return term.String() == "second" })
	term.Press("r")
	eventually(t, "another", func() bool { return term.String() == "another" })
	term.Press("q")
	if err := <-over; err != nil {
		t.Error(err)
	}
	restored(t, term)
}

func TestBlockIsReplacedAndRemoved(t *testing.T) {
	term := livetest.OpenTerminal(t)
	term.Resize(20, 5)
	if _, err := term.Program.WriteString("$ bench\r\n"); err != nil {
		t.Fatal(err)
	}
	b := NewBlock(term.Program)
	want := func(text string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%q, not %q", text, term.String()), func() bool { return term.String() == text })
	}
	b.Draw([]Line{{"one", Bold}, {Text: "two"}, {Text: "three"}})
	want("$ bench\none\ntwo\nthree")
	b.Draw([]Line{{Text: "four"}, {Text: strings.Repeat("x", 30)}})
	want("$ bench\nfour\n" + strings.Repeat("x", 18) + "…")
	b.Clear()
	b.Clear()
	want("$ bench")
	b.Draw(Lines("1\n2\n3\n4\n5\n6\n"))
	want("1\n2\n3\n4")
	if h := term.History(); h != "$ bench\n1\n2\n3\n4" {
		t.Errorf("history %q", h)
	}
	if m := term.Modes(); len(m) > 0 {
		t.Errorf("left behind: %v", m)
	}
	NewBlock(&strings.Builder{}).Draw(Lines("nobody sees this"))
	(*Block)(nil).Clear()
}
