package bench

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of a plot, in its units, which are pixels on most screens.
const (
	plotWidth  = 860
	plotLabels = 400 // from the left, for what a bar stands for
	plotValues = 110 // at the right, for figures
	plotRow    = 24
	plotBar    = 14
	plotTitle  = 40
)

// plot is bars for one figure of some lines.
type plot struct {
	title string
	lines []string // keys
}

// Plots are what is drawn, one below the other, each with a scale of its own.
var plots = []plot{
	{"Lock cycles a second, 64 goroutines", []string{
		processLocks64, daemonLocks64, "redis/memory/locks/64", "redsync/synced/locks/64", redsync64,
	}},
	{"Messages of 256 B a second, published, consumed, acked", []string{
		processFlow, daemonFlow, rabbitFlow, "rabbitmq/classic/flow",
	}},
}

// SVG draws the rates of the lines that people compare: the medians as bars,
// the least and the most of the rounds as a stroke. Lines that were not
// measured are left out.
func (r *Results) SVG() string {
	var b strings.Builder
	y := 0
	for _, p := range plots {
		y = r.draw(&b, p, y)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, plotWidth, y+plotRow/2, b.String())
}

// draw draws one plot from y on, and returns where it ends.
func (r *Results) draw(b *strings.Builder, p plot, y int) int {
	type bar struct {
		line *LineResult
		Summary
	}
	var bars []bar
	most := 0.0
	for _, key := range p.lines {
		if l := r.line(key); l != nil {
			s := summarize(l.Figures[Rate])
			bars = append(bars, bar{l, s})
			most = max(most, s.Most)
		}
	}
	if len(bars) == 0 {
		return y
	}
	fmt.Fprintf(b, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y+plotTitle*2/3, html.EscapeString(p.title))
	y += plotTitle
	at := func(v float64) float64 { return plotLabels + v/most*(plotWidth-plotLabels-plotValues) }
	for _, bar := range bars {
		colour := "#9aa5b1"
		if !strings.HasPrefix(bar.line.Key, "redsync") && !strings.HasPrefix(bar.line.Key, "rabbitmq") {
			colour = "#2f6f9f" // ours
		}
		middle := y + plotBar/2
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", plotLabels-8, middle+4, html.EscapeString(bar.line.On+", "+bar.line.Durability))
		fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", plotLabels, y, at(bar.Median)-plotLabels, plotBar, colour)
		fmt.Fprintf(b, "<path d=\"M%.1f %dH%.1f\" stroke=\"#222\"/>\n", at(bar.Least), middle, at(bar.Most))
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", at(bar.Most)+8, middle+4, show(bar.Median, "/s"))
		y += plotRow
	}
	return y
}
