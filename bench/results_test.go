package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sample are results of two lines, of which one is the base of the other.
func sample() *Results {
	r := &Results{Rounds: 3}
	for round := range 3 {
		n := float64(round + 1)
		r.add(&Line{Key: floorLog, On: "bare log", Durability: synced}, Figures{Rate: 1000 * n, P50: 10})
		r.add(&Line{Key: processLocks64, On: "in process", Durability: synced, Base: floorLog}, Figures{Rate: 500 * n * n})
	}
	return r
}

// TestRatiosAreTakenWithinARound: a machine that is slow for a round is slow
// for both.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	r := sample()
	got, ok := r.baseRatio(r.line(processLocks64))
	if want := (Summary{Median: 1, Least: 0.5, Most: 1.5}); !ok || got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got := summarize([]float64{4, 1, 3, 2}); got != (Summary{2.5, 1, 4}) {
		t.Errorf("summary of four: %v", got)
	}
}

func TestTargets(t *testing.T) {
	r := sample()
	table := targetTable(r)
	if got := table.rows[0]; got[1] != "1.00" || got[3] != "≥ 0.40" || got[4] != "met" {
		t.Errorf("%q", got)
	}
	r.line(processLocks64).Figures[Rate] = []float64{399, 799, 1100}
	table = targetTable(r)
	if got := table.rows[0]; got[4] != "MISSED" {
		t.Errorf("%q", got)
	}
	if got := table.rows[1]; got[4] != "not measured" {
		t.Errorf("%q", got)
	}
	most := Target{AtMost: true, Limit: 4}
	if !most.met(Summary{Median: 4}) || most.met(Summary{Median: 4.01}) {
		t.Error("at most is not at most")
	}
}

// TestEachTargetIsMeasured: no target names a line or a figure that is not
// there. The figures of the lines are seen by TestBench.
func TestEachTargetIsMeasured(t *testing.T) {
	var keys []string
	for _, l := range Lines() {
		if slices.Contains(keys, l.Key) || l.On == "" || l.What == "" || l.Durability == "" || l.Span == 0 {
			t.Errorf("%q is there twice, or is not described: %+v", l.Key, l)
		}
		keys = append(keys, l.Key)
	}
	for _, l := range Lines() {
		if l.Base != "" && !slices.Contains(keys, l.Base) {
			t.Errorf("%s: there is no line %q", l.Key, l.Base)
		}
	}
	for _, target := range Targets() {
		if !slices.Contains(keys, target.Line) || target.Per != "" && !slices.Contains(keys, target.Per) {
			t.Errorf("%s: there is no line %q, or %q", target.What, target.Line, target.Per)
		}
	}
}

// TestPlot: it is XML, and has a bar for each line that was measured.
func TestPlot(t *testing.T) {
	r := &Results{}
	for i, key := range plots[0].lines {
		r.add(&Line{Key: key, On: "a & b", Durability: synced}, Figures{Rate: float64(1000 * (i + 1))})
	}
	svg := r.SVG()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if strings.Count(svg, "<rect ") != 1+len(plots[0].lines) || !strings.Contains(svg, ">2,000/s<") {
		t.Errorf("the plot is\n%s", svg)
	}
}

// TestAppend: rounds that were measured later count as the others.
func TestAppend(t *testing.T) {
	r := sample()
	r.Append(sample())
	r.Append(&Results{Rounds: 1, Lines: []*LineResult{{Key: "new"}}})
	if r.Rounds != 7 || len(r.line(floorLog).Figures[Rate]) != 6 || r.line("new") == nil {
		t.Errorf("%d rounds, %v", r.Rounds, r.line(floorLog).Figures)
	}
}

func TestShow(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  string
		want  string
	}{
		{123456, "/s", "123,000/s"}, {1_234_567, "/s", "1,230,000/s"}, {999.6, "/s", "1,000/s"}, {0, "/s", "0.0/s"},
		{12.34, "MiB/s", "12.3 MiB/s"}, {1234.5, "time", "1.23ms"}, {31_000, "time", "31ms"}, {0.4, "times", "0.40"}, {0.95, "", "0.95"},
	} {
		if got := show(c.value, c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.value, c.unit, got, c.want)
		}
	}
}

func TestPageIsFilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	if err := sample().Write(path); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	page := "before\n<!-- measured: lines -->\nold\n<!-- end of what was measured -->\nafter\n"
	for range 2 { // what was filled can be filled again
		if page, err = r.Fill(page); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(page, "before\n<!-- measured: lines -->\n\n| on |") || !strings.HasSuffix(page, "\nafter\n") ||
		strings.Contains(page, "old") || strings.Count(page, "bare log | ") != 1 {
		t.Errorf("the page is\n%s", page)
	}
	for _, bad := range []string{"<!-- measured: nothing -->\n<!-- end of what was measured -->\n", "<!-- measured: lines -->\n"} {
		if _, err := r.Fill(bad); err == nil {
			t.Errorf("%q was filled", bad)
		}
	}
}
