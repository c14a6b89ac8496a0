package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cli/child"
	"github.com/lockkeeper/lockkeeper/internal/cli/live"
)

// benchProgress is what a person sees while a benchmark runs.
type benchProgress struct {
	*benchBounds
	title string
	began time.Time
	rows  []measured // the first is what --count counts
	last  []int      // counts when it was drawn last
	at    time.Time  // of that
}

// follow shows progress on a terminal until done is closed.
func (a *app) follow(done <-chan struct{}, p *benchProgress) {
	block := live.NewBlock(a.Err)
	defer block.Clear()
	if !block.Shown() {
		<-done
		return
	}
	p.last, p.at = make([]int, len(p.rows)), p.began
	tick := time.NewTicker(benchDrawn)
	defer tick.Stop()
	for {
		block.Draw(p.lines(time.Now()))
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// benchDrawn is how often it is drawn: to sum up the histograms takes away from
// what is measured.
const benchDrawn = 500 * time.Millisecond

func (p *benchProgress) lines(now time.Time) []live.Line {
	took := now.Sub(p.began)
	t := &live.Table{Columns: []live.Column{
		{}, {Title: "COUNT", Right: true}, {Title: "PER SECOND", Right: true}, {Title: "NOW", Right: true, Drop: 2},
		{Title: "P50", Right: true, Drop: 1}, {Title: "P99", Right: true},
	}}
	for i, r := range p.rows {
		q := r.quantiles()
		recent := perSecond{}
		if since := now.Sub(p.at); since > 0 {
			recent = perSecond{float64(q.Count-p.last[i]) / since.Seconds(), true}
		}
		p.last[i] = q.Count
		t.Rows = append(t.Rows, []string{
			r.name, strconv.Itoa(q.Count), perSecond{float64(q.Count) / max(took.Seconds(), 1e-3), took > 0}.String(), recent.String(),
			micros(q.P50), micros(q.P99),
		})
	}
	p.at = now
	part, of := took.Seconds()/p.duration.Seconds(), fmt.Sprintf("%s of %v", brief(took.Truncate(100*time.Millisecond)), p.duration)
	if p.count > 0 {
		if counted := float64(p.last[0]) / float64(p.count); counted > part {
			part, of = counted, fmt.Sprintf("%d of %d", p.last[0], p.count)
		}
	}
	head := live.Line{Text: fmt.Sprintf("%s  %s  %s  (Ctrl-C ends it)", p.title, bar(part), of), Style: live.Bold}
	return append([]live.Line{head}, t.Lines(0)...)
}

const barWidth = 20

// bar draws how much of something is done.
func bar(part float64) string {
	n := int(min(max(part, 0), 1) * barWidth)
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

// micros writes microseconds as people read them.
func micros(n int64) string { return brief(time.Duration(n) * time.Microsecond) }

// cutShort returns what a benchmark ends with that a signal ended before its
// time: its result was printed all the same.
func (a *app) cutShort(ctx context.Context) error {
	i := interrupted(ctx)
	if i == nil {
		return nil
	}
	a.say("a signal ended it early: these are the figures until then")
	return exit(child.SignalStatus(i.signal))
}
