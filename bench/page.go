package bench

import (
	"fmt"
	"strings"
)

// Marks on lines of their own, between which a page has figures:
//
//	<!-- measured: targets -->
//	<!-- end of what was measured -->
//
// What stands there is replaced.
const (
	markBegin = "<!-- measured: "
	markEnd   = "<!-- end of what was measured -->"
)

// Fill puts the tables of results between the marks of a page, and returns it.
func (r *Results) Fill(page string) (string, error) {
	targets, lines := targetTable(r), lineTable(r)
	parts := map[string]string{
		"machine": fmt.Sprintf("Medians of %d rounds. %s.\n", r.Rounds, r.Machine.String()),
		"targets": targets.markdown(),
		"lines":   lines.markdown(),
	}
	var b strings.Builder
	rest := page
	for {
		before, after, ok := strings.Cut(rest, markBegin)
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(after, " -->\n")
		_, after, ended := strings.Cut(after, markEnd)
		text, known := parts[name]
		if !closed || !ended || !known {
			return "", fmt.Errorf("the mark %q is unknown, or has no end", name)
		}
		fmt.Fprintf(&b, "%s%s -->\n\n%s\n%s", markBegin, name, text, markEnd)
		rest = after
	}
}
