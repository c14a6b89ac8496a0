package live

import (
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// Sequences of ECMA-48 and of xterm.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no wrapping
	leaveScreen = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K" // from the cursor on
	clearBelow  = "\x1b[J"
	clearAll    = "\x1b[2J"
)

// The size that a terminal has which does not say.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// suspendTime is how long suspend waits for having been stopped, where nobody
// stops it.
const suspendTime = 200 * time.Millisecond

// Screen is a whole terminal, as it is on the alternate screen: what was there
// before comes back with Close. One goroutine uses it at a time.
type Screen struct {
	in, out *os.File
	before  *term.State // nil: the keys are not ours
	keys    <-chan Key  // nil likewise
	keyring *keyboard
	signals chan os.Signal
	stale   bool // the terminal may show something else than what was drawn
	closing sync.Once
	err     error // of Close
}

// Open takes over the terminal out. If in is a terminal too it reads the keys,
// each as it is pressed: then Ctrl-C is a key and not a signal.
func Open(in any, out *os.File) (*Screen, error) {
	s := &Screen{out: out, signals: make(chan os.Signal, 4)}
	if s.in = Terminal(in); s.in != nil {
		before, err := term.GetState(int(s.in.Fd()))
		if err != nil {
			return nil, err
		}
		s.before = before
	}
	if err := s.enter(); err != nil {
		_ = s.leave() // as far as it got
		return nil, err
	}
	if s.in != nil {
		var err error
		if s.keyring, err = listen(s.in); err != nil {
			_ = s.leave()
			return nil, err
		}
		s.keys = s.keyring.keys
	}
	signal.Notify(s.signals, syscall.SIGWINCH, syscall.SIGCONT)
	return s, nil
}

// Close gives the terminal back as it was. Closing again does nothing.
func (s *Screen) Close() error {
	s.closing.Do(func() {
		signal.Stop(s.signals)
		if s.keyring != nil {
			s.keyring.stop()
		}
		s.err = s.leave()
	})
	return s.err
}

// Size returns how many columns and lines the screen has.
func (s *Screen) Size() (width, height int) { return size(s.out) }

func size(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 1 || height < 1 {
		return defaultWidth, defaultHeight
	}
	return width, height
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func (s *Screen) enter() error {
	if s.before != nil {
		if _, err := term.MakeRaw(int(s.in.Fd())); err != nil {
			return err
		}
	}
	s.stale = true
	_, err := s.out.WriteString(enterScreen)
	return err
}

func (s *Screen) leave() error {
	_, err := s.out.WriteString(leaveScreen)
	if s.before != nil {
		if e := term.Restore(int(s.in.Fd()), s.before); err == nil {
			err = e
		}
	}
	return err
}

// signal reacts to a new size, and to having been stopped and continued:
// the shell has used the terminal meanwhile.
func (s *Screen) signal(sig os.Signal) error {
	s.stale = true
	if sig == syscall.SIGCONT {
		return s.enter()
	}
	return nil
}

// suspend gives the terminal to the shell, as Ctrl-Z does where it is no key,
// and returns when the program goes on.
func (s *Screen) suspend() {
	_ = s.leave() // an error shows again when it is drawn on
	_ = syscall.Kill(0, syscall.SIGTSTP)
	timer := time.NewTimer(suspendTime)
	defer timer.Stop()
	select {
	case <-s.signals:
	case <-timer.C: // nobody who could continue it: it was not stopped
	}
	_ = s.enter()
}

// draw shows lines from the top. It overwrites and does not clear first,
// which would flicker.
func (s *Screen) draw(lines []Line) error {
	width, height := s.Size()
	var b strings.Builder
	if s.stale {
		b.WriteString(clearAll)
		s.stale = false
	}
	b.WriteString(home)
	for i, l := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		l.write(&b, width)
		if Width(l.Text) < width { // in the last column it would take a character away
			b.WriteString(clearLine)
		}
	}
	if len(lines) < height {
		if len(lines) > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(clearBelow)
	}
	_, err := s.out.WriteString(b.String())
	return err
}
