package bench

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// Plan says what to measure, and how long.
type Plan struct {
	Lines    string    // a regular expression for keys; "": all
	Rounds   int       // how often each line is measured
	Share    float64   // of the spans of the whole form: 1 is the whole
	Progress io.Writer // what is measured, as it is
}

// Measure carries out a plan: round by round, and in each of them line by
// line. If one fails, so does the test, and the others are measured still.
func Measure(t *testing.T, p Plan) *Results {
	t.Helper()
	wanted, err := regexp.Compile(p.Lines)
	if err != nil {
		t.Fatal(err)
	}
	var lines []*Line
	for _, l := range Lines() {
		if wanted.MatchString(l.Key) {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		t.Fatalf("no line matches %q", p.Lines)
	}
	s := startServers(t, lines)
	r := &Results{Machine: thisMachine(t.Context(), t.TempDir()), Rounds: p.Rounds}
	s.describe(t, &r.Machine)
	for round := range p.Rounds {
		for _, l := range lines {
			t.Run(fmt.Sprintf("%d/%s", round+1, l.Key), func(t *testing.T) {
				rest()
				f := l.Run(t, s, time.Duration(p.Share*float64(l.Span)))
				r.add(l, f)
				_, _ = fmt.Fprintf(p.Progress, "%d/%d  %-28s  %s\n", round+1, p.Rounds, l.Key, f)
			})
		}
	}
	return r
}

// rest gives back what the line before has left behind.
func rest() {
	runtime.GC()
	debug.FreeOSMemory()
}

// String writes the figures in one row.
func (f Figures) String() string {
	var parts []string
	for _, n := range figureNames {
		if v, ok := f[n.name]; ok {
			parts = append(parts, n.title+" "+show(v, n.unit))
		}
	}
	return strings.Join(parts, ", ")
}
