package live

import (
	"cmp"
	"slices"
	"strings"
)

// Column of a Table.
type Column struct {
	Title string
	Right bool // numbers
	// Flex columns are shortened where the table is too wide, down to
	// minFlex: first those with the largest Drop, of these the widest.
	Flex bool
	// Drop says in which order columns go if that does not make it narrow
	// enough: the largest first. A column with 0 stays.
	Drop int
}

// minFlex is how short a Flex column becomes before others are left out.
const minFlex = 12

// gap is between two columns.
const gap = "  "

// Table is rows under a line of titles.
type Table struct {
	Columns []Column
	Rows    [][]string // each with a cell a column
}

// Lines lays the table out in so many columns of the screen; 0 is as many as
// it takes.
func (t *Table) Lines(width int) []Line {
	shown := make([]int, len(t.Columns))
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		shown[i] = i
		widths[i] = Width(c.Title)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], Width(row[i]))
		}
	}
	if width > 0 {
		shown = t.fit(shown, widths, width)
	}
	lines := make([]Line, 0, len(t.Rows)+1)
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = c.Title
	}
	lines = append(lines, Line{t.line(titles, shown, widths), Bold})
	for _, row := range t.Rows {
		lines = append(lines, Line{Text: t.line(row, shown, widths)})
	}
	return lines
}

// String is the whole table, for where nothing has to fit.
func (t *Table) String() string {
	var b strings.Builder
	for _, l := range t.Lines(0) {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// fit leaves out columns and shortens others until the rest is narrow enough,
// if that can be.
func (t *Table) fit(shown, widths []int, width int) []int {
	excess := func(least bool) int {
		n := len(gap) * (len(shown) - 1)
		for _, i := range shown {
			if least && t.Columns[i].Flex {
				n += min(widths[i], minFlex)
			} else {
				n += widths[i]
			}
		}
		return n - width
	}
	for excess(true) > 0 {
		last := -1
		for _, i := range shown {
			if d := t.Columns[i].Drop; d > 0 && (last < 0 || d >= t.Columns[last].Drop) {
				last = i
			}
		}
		if last < 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == last })
	}
	for over := excess(false); over > 0; over-- {
		i := t.shortened(shown, widths)
		if i < 0 {
			break
		}
		widths[i]--
	}
	return shown
}

// shortened is the column that is to become shorter; -1: none can.
func (t *Table) shortened(shown, widths []int) int {
	best := -1
	for _, i := range shown {
		if !t.Columns[i].Flex || widths[i] <= minFlex {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(t.Columns[i].Drop, t.Columns[best].Drop), cmp.Compare(widths[i], widths[best])) > 0 {
			best = i
		}
	}
	return best
}

func (t *Table) line(cells []string, shown, widths []int) string {
	var b strings.Builder
	for n, i := range shown {
		if n > 0 {
			b.WriteString(gap)
		}
		cell := Clip(cells[i], widths[i])
		pad := strings.Repeat(" ", widths[i]-Width(cell))
		if t.Columns[i].Right {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
