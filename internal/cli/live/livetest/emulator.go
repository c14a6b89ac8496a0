// Package livetest is a terminal for tests of what draws on one: an Emulator
// that knows the sequences that package live writes, and fails a test that
// meets another; and, on Linux, a pseudo-terminal with an Emulator behind it.
package livetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Emulator is what a person sees. All methods may be called concurrently.
type Emulator struct {
	mu       sync.Mutex
	width    int
	height   int
	main     [][]rune // what was there before the alternate screen
	cells    [][]rune
	row, col int
	cursor   [2]int // on the main screen
	alt      bool
	hidden   bool
	noWrap   bool
	rest     []byte // an incomplete sequence
	history  strings.Builder
	unknown  []string
}

// NewEmulator makes an empty screen.
func NewEmulator(width, height int) *Emulator {
	return &Emulator{width: width, height: height, cells: blank(width, height)}
}

func blank(width, height int) [][]rune {
	cells := make([][]rune, height)
	for i := range cells {
		cells[i] = slices.Repeat([]rune{' '}, width)
	}
	return cells
}

// Resize changes the size; what is on the screen stays at the top left.
func (e *Emulator) Resize(width, height int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.cells
	e.width, e.height, e.cells = width, height, blank(width, height)
	for i := range min(height, len(old)) {
		copy(e.cells[i], old[i])
	}
	e.row, e.col = min(e.row, height-1), min(e.col, width-1)
}

// String is the screen, without spaces at the ends of lines and empty lines at
// the end.
func (e *Emulator) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, line := range e.cells {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// History is every line that was ever begun below another on the main screen,
// as a terminal keeps it for scrolling back; and what is on it now.
func (e *Emulator) History() string {
	now := e.String()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.history.String() + now
}

// Modes says what a program has changed and must give back: "alternate
// screen", "no cursor", "no wrapping"; and sequences that are not known.
func (e *Emulator) Modes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	modes := slices.Clone(e.unknown)
	for name, on := range map[string]bool{"alternate screen": e.alt, "no cursor": e.hidden, "no wrapping": e.noWrap} {
		if on {
			modes = append(modes, name)
		}
	}
	slices.Sort(modes)
	return modes
}

// Write is what a program prints.
func (e *Emulator) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = append(e.rest, b...)
	for len(e.rest) > 0 {
		n := e.step(e.rest)
		if n == 0 {
			break
		}
		e.rest = e.rest[n:]
	}
	return len(b), nil
}

// step carries out the first thing of b and returns its length; 0: it is not
// complete.
func (e *Emulator) step(b []byte) int {
	switch b[0] {
	case '\r':
		e.col = 0
		return 1
	case '\n':
		e.down()
		return 1
	case '\a', '\b':
		e.col = max(0, e.col-1)
		return 1
	case 0x1b:
		return e.escape(b)
	}
	if !utf8.FullRune(b) {
		return 0
	}
	r, n := utf8.DecodeRune(b)
	if e.col == e.width {
		if e.noWrap {
			e.col--
		} else {
			e.col = 0
			e.down()
		}
	}
	e.cells[e.row][e.col] = r
	e.col++
	return n
}

func (e *Emulator) down() {
	if e.row < e.height-1 {
		e.row++
		return
	}
	if !e.alt {
		e.history.WriteString(strings.TrimRight(string(e.cells[0]), " ") + "\n")
	}
	e.cells = append(e.cells[1:], slices.Repeat([]rune{' '}, e.width))
}

func (e *Emulator) escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if b[1] != '[' {
		e.unknown = append(e.unknown, fmt.Sprintf("%q", b[:2]))
		return 2
	}
	end := 2 + strings.IndexFunc(string(b[2:]), func(r rune) bool { return r >= 0x40 && r <= 0x7e })
	if end < 2 {
		return 0
	}
	args := string(b[2:end])
	n, err := strconv.Atoi(args)
	if err != nil || n == 0 {
		n = 1
	}
	switch b[end] {
	case 'm': // looks are not kept
	case 'H':
		e.row, e.col = 0, 0
	case 'A':
		e.row = max(0, e.row-n)
	case 'K':
		for i := e.col; i < e.width; i++ {
			e.cells[e.row][i] = ' '
		}
	case 'J':
		e.clear(args)
	case 'h', 'l':
		e.mode(args, b[end] == 'h')
	default:
		e.unknown = append(e.unknown, fmt.Sprintf("%q", b[:end+1]))
	}
	return end + 1
}

func (e *Emulator) clear(args string) {
	row, col := e.row, e.col
	if args == "2" {
		row, col = 0, 0
	}
	for i := row; i < e.height; i++ {
		for j := col; j < e.width; j++ {
			e.cells[i][j] = ' '
		}
		col = 0
	}
}

func (e *Emulator) mode(args string, set bool) {
	switch args {
	case "?25":
		e.hidden = !set
	case "?7":
		e.noWrap = !set
	case "?1049":
		switch {
		case set && !e.alt:
			e.main, e.cells = e.cells, blank(e.width, e.height)
			e.cursor = [2]int{e.row, e.col}
		case !set && e.alt:
			before := e.main
			e.cells = blank(e.width, e.height)
			for i := range min(e.height, len(before)) {
				copy(e.cells[i], before[i])
			}
			e.row, e.col = min(e.cursor[0], e.height-1), min(e.cursor[1], e.width-1)
		}
		e.alt = set
	default:
		e.unknown = append(e.unknown, args)
	}
}
