package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"strconv"
)

// Measures of a plot, in its units.
const (
	panelWidth  = 420
	panelHeight = 130
	panelGap    = 46
	panelLeft   = 70
	panelPoints = 200 // a panel shows so many at most: the medians of those near each other
)

// plot draws the columns of a run over time, a panel each, as SVG.
func plot(all []sample) []byte {
	var b bytes.Buffer
	rows := (len(columns) - 1 + 1) / 2
	width, height := 2*(panelLeft+panelWidth)+40, rows*(panelHeight+panelGap)+20
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", width, height)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height)
	for i, col := range columns[1:] {
		x := panelLeft + i%2*(panelLeft+panelWidth)
		y := 30 + i/2*(panelHeight+panelGap)
		panel(&b, x, y, col.name, col.unit, thin(all, col.of))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

type point struct{ x, y float64 }

// thin makes the points of a column, few enough to be seen.
func thin(all []sample, of func(s *sample) *float64) []point {
	each := max(1, (len(all)+panelPoints-1)/panelPoints)
	var ps []point
	for ; len(all) > 0; all = all[min(each, len(all)):] {
		part := all[:min(each, len(all))]
		ps = append(ps, point{medianOf(part, columns[0].of), medianOf(part, of)})
	}
	return ps
}

func panel(b *bytes.Buffer, x, y int, name, unit string, ps []point) {
	maxX, maxY := 1e-9, 1e-9
	for _, p := range ps {
		maxX, maxY = math.Max(maxX, p.x), math.Max(maxY, p.y)
	}
	maxY = ceiling(maxY)
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", x, y-6, html.EscapeString(name+" "+unit))
	for i := range 3 {
		at := y + panelHeight*i/2
		fmt.Fprintf(b, "<path d=\"M%d %dh%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>\n", x, at, panelWidth, x-6, at+4, maxY*float64(2-i)/2)
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f s</text>\n", x+panelWidth, y+panelHeight+14, maxX)
	b.WriteString("<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.2\" points=\"")
	for _, p := range ps {
		fmt.Fprintf(b, "%.1f,%.1f ", float64(x)+p.x/maxX*panelWidth, float64(y)+panelHeight-p.y/maxY*panelHeight)
	}
	b.WriteString("\"/>\n")
}

// ceiling is the next number that is good to read: 1, 2 or 5 times a power of
// ten.
func ceiling(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// plotFile draws the samples of a file that steady has written.
func plotFile(from, to string) error {
	if from == "" || to == "" {
		return errors.New("say -csv and -svg")
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	rows, err := csv.NewReader(f).ReadAll()
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if len(rows) == 0 {
		return errors.New("no samples")
	}
	all := make([]sample, len(rows)-1)
	for i, row := range rows[1:] {
		if len(row) != len(columns) {
			return fmt.Errorf("row %d has %d columns", i+2, len(row))
		}
		for j, col := range columns {
			if *col.of(&all[i]), err = strconv.ParseFloat(row[j], 64); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(to, plot(all), 0o600); err != nil {
		return err
	}
	return judge(all)
}
