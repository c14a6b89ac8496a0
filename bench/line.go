package bench

import (
	"slices"
	"testing"
	"time"
)

// Line is one thing that is measured.
type Line struct {
	Key        string // "process/file/locks/64": what -lines matches, and the results are kept under
	On         string // on what: "in process", "redsync"
	What       string // "lock cycles, 64 goroutines"
	Durability string // of what was confirmed
	Base       string // Key of the line that the rate is set in relation to; "": none

	// Span is how long one measurement of the whole form takes, about.
	Span time.Duration
	// Run measures once, for about span. What it starts ends with t.
	Run func(t testing.TB, s *Servers, span time.Duration) Figures
}

// Figures are what one measurement found, by the name of the figure.
type Figures map[string]float64

// The figures that there are. Their order is that of the tables.
const (
	Rate      = "rate"       // per second
	MiBRate   = "mib_rate"   // MiB per second
	P50       = "p50_us"     // microseconds
	P99       = "p99_us"     // microseconds
	GapP99    = "gap_p99_us" // microseconds
	LeastMost = "least_most" // the least served of the workers by the most served
	PeakRSS   = "rss_mib"    // MiB
)

// figureNames are the figures in the order of the tables, with what a table
// calls them.
var figureNames = []struct{ name, title, unit string }{
	{Rate, "rate", "/s"},
	{MiBRate, "rate", "MiB/s"},
	{P50, "p50", "time"},
	{P99, "p99", "time"},
	{GapP99, "gap p99", "time"},
	{LeastMost, "least/most served", ""},
	{PeakRSS, "peak memory", "MiB"},
}

// quantile returns the q-th part of sorted durations, in microseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i].Nanoseconds()) / 1e3
}

// latencies returns the figures of a set of durations, which it sorts.
func latencies(ds []time.Duration) Figures {
	slices.Sort(ds)
	return Figures{P50: quantile(ds, 0.5), P99: quantile(ds, 0.99)}
}
