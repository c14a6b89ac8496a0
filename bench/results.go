package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Results are what one run has found, as they are kept in a file.
type Results struct {
	Machine Machine       `json:"machine"`
	Rounds  int           `json:"rounds"`
	Lines   []*LineResult `json:"lines"`
}

// LineResult are the figures of one line, one a round.
type LineResult struct {
	Key        string               `json:"key"`
	On         string               `json:"on"`
	What       string               `json:"what"`
	Durability string               `json:"durability"`
	Base       string               `json:"base,omitempty"`
	Figures    map[string][]float64 `json:"figures"`
}

// Read reads results from a file.
func Read(path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Write writes the results to a file.
func (r *Results) Write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // for everybody to read
}

// line returns the results of a line, nil if it was not measured.
func (r *Results) line(key string) *LineResult {
	i := slices.IndexFunc(r.Lines, func(l *LineResult) bool { return l.Key == key })
	if i < 0 {
		return nil
	}
	return r.Lines[i]
}

// add takes the figures of one more round of a line.
func (r *Results) add(l *Line, f Figures) {
	found := r.line(l.Key)
	if found == nil {
		found = &LineResult{Key: l.Key, On: l.On, What: l.What, Durability: l.Durability, Base: l.Base, Figures: map[string][]float64{}}
		r.Lines = append(r.Lines, found)
	}
	for name, value := range f {
		found.Figures[name] = append(found.Figures[name], value)
	}
}

// Append adds the rounds of another run on the same machine.
func (r *Results) Append(more *Results) {
	r.Rounds += more.Rounds
	for _, l := range more.Lines {
		found := r.line(l.Key)
		if found == nil {
			r.Lines = append(r.Lines, l)
			continue
		}
		for figure, values := range l.Figures {
			found.Figures[figure] = append(found.Figures[figure], values...)
		}
	}
}

// Summary is the middle of some rounds, and how far they are apart.
type Summary struct{ Median, Least, Most float64 }

// summarize sums up the rounds of a figure.
func summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Summary{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Least: sorted[0], Most: sorted[n-1]}
}

// ratios divides a figure by another one, round by round.
func ratios(values, base []float64) []float64 {
	n := min(len(values), len(base))
	out := make([]float64, 0, n)
	for i := range n {
		if base[i] > 0 {
			out = append(out, values[i]/base[i])
		}
	}
	return out
}

// baseRatio is the rate of a line in relation to that of its base.
func (r *Results) baseRatio(l *LineResult) (Summary, bool) {
	base := r.line(l.Base)
	if base == nil {
		return Summary{}, false
	}
	for _, figure := range []string{Rate, MiBRate} {
		if q := ratios(l.Figures[figure], base.Figures[figure]); len(q) > 0 {
			return summarize(q), true
		}
	}
	return Summary{}, false
}
