package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// table is the rows of a table, each as many cells as there are columns.
type table struct {
	columns []string
	rows    [][]string
}

// lineTable is a row for each figure of each line.
func lineTable(r *Results) table {
	t := table{columns: []string{"on", "what", "durability", "figure", "median", "least … most", "of"}}
	for _, l := range r.Lines {
		first := true
		for _, f := range figureNames {
			values, ok := l.Figures[f.name]
			if !ok {
				continue
			}
			s := summarize(values)
			row := []string{"", "", "", f.title, show(s.Median, f.unit), show(s.Least, f.unit) + " … " + show(s.Most, f.unit), ""}
			if first {
				row[0], row[1], row[2] = l.On, l.What, l.Durability
				if q, ok := r.baseRatio(l); ok {
					base := r.line(l.Base)
					row[6] = fmt.Sprintf("%s (%s … %s) × %s", show(q.Median, "times"), show(q.Least, "times"), show(q.Most, "times"), base.name())
				}
				first = false
			}
			t.rows = append(t.rows, row)
		}
	}
	return t
}

// name is what a line is called beside another one.
func (l *LineResult) name() string {
	if l.Durability == synced {
		return l.On
	}
	return l.On + ", " + l.Durability
}

// targetTable is a row for each target.
func targetTable(r *Results) table {
	t := table{columns: []string{"target", "measured", "least … most", "wanted", ""}}
	for _, target := range Targets() {
		sign := "≥ "
		if target.AtMost {
			sign = "≤ "
		}
		row := []string{target.What, "", "", sign + show(target.Limit, target.Unit), "not measured"}
		if s, ok := target.measure(r); ok {
			row[1] = show(s.Median, target.Unit)
			row[2] = show(s.Least, target.Unit) + " … " + show(s.Most, target.Unit)
			row[4] = "MISSED"
			if target.met(s) {
				row[4] = "met"
			}
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// show writes a figure in its unit, with three digits that count.
func show(v float64, unit string) string {
	switch unit {
	case "time":
		return roundTime(time.Duration(v * 1e3)).String()
	case "/s":
		return thousands(round(v)) + "/s"
	case "times", "":
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return thousands(round(v)) + " " + unit
}

// round keeps three digits.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
	return math.Round(v/unit) * unit
}

func roundTime(d time.Duration) time.Duration {
	return time.Duration(round(float64(d))).Round(10)
}

// thousands sets the digits of a number apart.
func thousands(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Print writes the tables for a terminal.
func (r *Results) Print(w io.Writer) error {
	for _, t := range []table{lineTable(r), targetTable(r)} {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		lines := []string{strings.ToUpper(strings.Join(t.columns, "\t"))}
		for _, row := range t.rows {
			lines = append(lines, strings.Join(row, "\t"))
		}
		if _, err := io.WriteString(tw, strings.Join(lines, "\n")+"\n\n"); err != nil {
			return err
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "medians of %d rounds; %s\n", r.Rounds, r.Machine.String())
	return err
}

// markdown writes a table for a page.
func (t *table) markdown() string {
	var b strings.Builder
	row := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row(t.columns)
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(t.columns)))
	for _, cells := range t.rows {
		row(cells)
	}
	return b.String()
}
