package live

import (
	"errors"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Key is a character, or one of the constants.
type Key rune

// Keys that are no characters.
const (
	CtrlC     Key = 0x03
	CtrlL     Key = 0x0c
	CtrlZ     Key = 0x1a
	Tab       Key = '\t'
	Enter     Key = '\r'
	Escape    Key = 0x1b
	Backspace Key = 0x7f
)

// Keys that send a sequence.
const (
	Up Key = -1 - iota
	Down
	Left
	Right
	Home
	End
	PageUp
	PageDown
	Unknown
)

// escapeTime is how long the rest of a sequence may take; an Escape without
// one is the key.
const escapeTime = 50 * time.Millisecond

// csi are the ends of the sequences of keys.
var csi = map[string]Key{
	"A": Up, "B": Down, "C": Right, "D": Left, "H": Home, "F": End,
	"1~": Home, "4~": End, "5~": PageUp, "6~": PageDown, "7~": Home, "8~": End,
}

// keyboard reads keys until stop.
type keyboard struct {
	in   *os.File
	keys chan Key
	wake *os.File // closed by stop
	over *os.File // can be read when wake is closed
	done chan struct{}
}

func listen(in *os.File) (*keyboard, error) {
	over, wake, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k := &keyboard{in: in, keys: make(chan Key, 64), wake: wake, over: over, done: make(chan struct{})}
	go k.run()
	return k, nil
}

func (k *keyboard) stop() {
	_ = k.wake.Close() // ends run
	<-k.done
	_ = k.over.Close()
}

// run reads as soon as there is something to read and not before, so that
// what is typed after stop is left to the shell.
func (k *keyboard) run() {
	defer close(k.done)
	var pending []byte
	buf := make([]byte, 256)
	for {
		typed, ok := k.await(len(pending) > 0)
		if !ok {
			return
		}
		if !typed {
			k.send(decode(pending, true))
			pending = nil
			continue
		}
		n, err := k.in.Read(buf)
		if err != nil || n == 0 {
			return
		}
		keys, rest := decode(append(pending, buf[:n]...), false)
		pending = rest
		k.send(keys, nil)
	}
}

// send drops keys that nobody takes: a person who waits types again.
func (k *keyboard) send(keys []Key, _ []byte) {
	for _, key := range keys {
		select {
		case k.keys <- key:
		default:
		}
	}
}

// await waits until something was typed, or, with soon, for escapeTime. It
// returns false when the keyboard is stopped.
func (k *keyboard) await(soon bool) (typed, ok bool) {
	in, over := int(k.in.Fd()), int(k.over.Fd())
	for {
		var timeout *unix.Timeval
		if soon {
			t := unix.NsecToTimeval(escapeTime.Nanoseconds())
			timeout = &t
		}
		var set unix.FdSet
		set.Zero()
		set.Set(in)
		set.Set(over)
		_, err := unix.Select(max(in, over)+1, &set, nil, nil, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, false
		case set.IsSet(over):
			return false, false
		}
		return set.IsSet(in), true
	}
}

// decode turns what was typed into keys and returns the beginning of a
// sequence that is not complete. With final there is no more to come.
func decode(b []byte, final bool) (keys []Key, rest []byte) {
	for len(b) > 0 {
		n, key := first(b, final)
		if n == 0 {
			return keys, b
		}
		keys = append(keys, key)
		b = b[n:]
	}
	return keys, nil
}

// first returns the first key of b and its length; 0: it is not complete.
func first(b []byte, final bool) (int, Key) {
	switch {
	case b[0] == '\n':
		return 1, Enter
	case b[0] == '\b':
		return 1, Backspace
	case b[0] != byte(Escape):
		if !final && !utf8.FullRune(b) {
			return 0, 0
		}
		r, n := utf8.DecodeRune(b)
		return n, Key(r)
	case len(b) == 1:
		if final {
			return 1, Escape
		}
		return 0, 0
	case b[1] != '[' && b[1] != 'O':
		return 1, Escape
	}
	// CSI, or SS3 for the same keys in another mode: digits and semicolons, then a letter or ~.
	end := 2 + strings.IndexFunc(string(b[2:]), func(r rune) bool { return r >= 0x40 && r <= 0x7e })
	if end < 2 {
		if final || len(b) > 16 {
			return len(b), Unknown
		}
		return 0, 0
	}
	if key, ok := csi[string(b[2:end+1])]; ok {
		return end + 1, key
	}
	return end + 1, Unknown
}
