package live

import (
	"os"
	"strconv"
	"strings"
)

// Block is some lines at the cursor that are drawn again and again, while the
// program prints nothing else. The zero value and a nil *Block draw nothing.
// One goroutine uses it at a time.
type Block struct {
	out   *os.File
	drawn []int // widths of the lines that are there
}

// NewBlock makes a block on w, which draws nothing if w is no terminal.
func NewBlock(w any) *Block { return &Block{out: Terminal(w)} }

// Shown reports whether anybody can see it.
func (b *Block) Shown() bool { return b != nil && b.out != nil }

// Draw replaces the lines. Of more lines than the terminal has it draws the
// first.
func (b *Block) Draw(lines []Line) {
	if !b.Shown() {
		return
	}
	width, height := size(b.out)
	var s strings.Builder
	b.back(&s, width)
	b.drawn = b.drawn[:0]
	for _, l := range lines[:min(len(lines), height-1)] {
		// A line that reaches the last column wraps in some terminals.
		l.write(&s, width-1)
		s.WriteString(clearLine + "\r\n")
		b.drawn = append(b.drawn, min(Width(l.Text), width-1))
	}
	s.WriteString(clearBelow)
	_, _ = b.out.WriteString(s.String()) // nobody is left to see it
}

// Clear removes the lines.
func (b *Block) Clear() {
	if !b.Shown() || len(b.drawn) == 0 {
		return
	}
	width, _ := size(b.out)
	var s strings.Builder
	b.back(&s, width)
	b.drawn = nil
	_, _ = b.out.WriteString(s.String() + clearBelow)
}

// back moves the cursor to where the lines begin. Since they were drawn the
// terminal may have become narrower and broken them.
func (b *Block) back(s *strings.Builder, width int) {
	rows := 0
	for _, w := range b.drawn {
		rows += max(1, (w+width-1)/width)
	}
	s.WriteString("\r")
	if rows > 0 {
		s.WriteString("\x1b[" + strconv.Itoa(rows) + "A")
	}
}
