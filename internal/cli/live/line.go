package live

import (
	"strings"
	"unicode"
)

// Line is one line of a picture. It has no line end and no escape sequences;
// what cannot be printed is replaced.
type Line struct {
	Text  string
	Style Style
}

// Style is how a whole line looks.
type Style uint8

// Styles.
const (
	Plain Style = iota
	Bold
	Dim
	Reverse
	Alarm // something is wrong
)

var sequences = [...]string{Plain: "", Bold: "\x1b[1m", Dim: "\x1b[2m", Reverse: "\x1b[7m", Alarm: "\x1b[1;31m"}

const plainAgain = "\x1b[0m"

// write writes the line, at most width columns of it.
func (l Line) write(b *strings.Builder, width int) {
	text := Clip(Clean(l.Text), width)
	if l.Style == Plain {
		b.WriteString(text)
		return
	}
	b.WriteString(sequences[l.Style])
	b.WriteString(text)
	b.WriteString(plainAgain)
}

// Lines makes a plain Line of each line of text.
func Lines(text string) []Line {
	var out []Line
	for line := range strings.Lines(text) {
		out = append(out, Line{Text: strings.TrimRight(line, "\n")})
	}
	return out
}

// replacement stands for what a terminal might act upon.
const replacement = '\uFFFD'

// Clean replaces what is not printed: control characters, and those that
// change the direction of a text or cannot be seen.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return replacement
	}, s)
}

// Width returns how many columns s takes: two for each wide character of East
// Asia and each emoji, none for combining marks.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// Clip returns s if it fits into so many columns, and otherwise its beginning
// with an ellipsis.
func Clip(s string, columns int) string {
	if Width(s) <= columns {
		return s
	}
	if columns <= 0 {
		return ""
	}
	n := 0
	for i, r := range s {
		n += runeWidth(r)
		if n > columns-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// wide are the blocks whose characters take two columns, after the Unicode
// property East_Asian_Width.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff01, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}
