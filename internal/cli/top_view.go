package cli

import (
	"context"

	"github.com/lockkeeper/lockkeeper/internal/cli/live"
)

// topView is `lockkeeper top` on a terminal.
type topView struct {
	*top
	source *topSource
	prefix string
	view   *live.View[*topSample]

	shown         int     // showBoth and so on
	typing        *string // the filter that is being typed; nil: none is
	help          bool
	locks, queues live.Scroll
}

// What shown may be.
const (
	showBoth = iota
	showLocks
	showQueues
	showings
)

const topKeys = "q quit  / filter  Tab tables  p pause  ? keys"

const topHelp = `q, Escape, Ctrl-C    quit
/                    filter by the beginning of names; Enter takes it, Escape leaves it
Tab                  both tables, only locks, only queues
arrows, PgUp, PgDn   scroll
p                    pause, and go on
+ -                  look more often, less often
w o e n              order locks by waiting, oldest wait, what ends next, name
d f r o n            order queues by depth, in flight, rate, oldest message, name

any key goes back`

func newTopView(t *top, source *topSource, prefix string, first *topSample) *topView {
	v := &topView{top: t, source: source, prefix: prefix}
	v.view = &live.View[*topSample]{First: &first, Interval: t.interval, Draw: v.draw, Key: v.key}
	v.look()
	return v
}

// look makes the following Fetches look at the names that begin with prefix.
func (v *topView) look() { v.view.Fetch = bounded(v.source.fetch(v.prefix)) }

func (v *topView) run(ctx context.Context, screen *live.Screen) error {
	return live.Run(ctx, screen, v.view)
}

func (v *topView) draw(s *live.State[*topSample]) []live.Line {
	title := "lockkeeper top"
	if v.prefix != "" {
		title += " " + v.prefix
	}
	lines := v.heading(title, v.view.Interval, &s.Status)
	foot := topKeys
	if v.typing != nil {
		foot = "names that begin with: " + *v.typing + "_"
	}
	switch {
	case v.help:
		return live.Foot(append(append(lines, live.Line{}), live.Lines(topHelp)...), s.Height, "")
	case s.At.IsZero():
		return live.Foot(lines, s.Height, foot)
	}
	lines = append(lines, live.Line{Text: s.Value.summary()})
	lines = append(lines, v.tables(s.Value, s.Width, s.Height-len(lines)-1)...)
	return live.Foot(lines, s.Height, foot)
}

// tables draws the tables in so many lines. Each has half of them, or what the
// other does not need.
func (v *topView) tables(s *topSample, width, height int) []live.Line {
	locks, queues := v.sorted(s)
	both := v.shown == showBoth
	lockLines, queueLines := lockRows(locks).Lines(width), queueRows(queues).Lines(width)
	head := 2 // an empty line and the title
	if height < tightHeight {
		head = 1
	}
	forLocks := height
	if both {
		forLocks = max(height/2, height-len(queueLines)-head)
	}
	var out []live.Line
	if v.shown != showQueues {
		out = append(out, section(head, v.locksTitle(s), lockLines, forLocks-head, &v.locks, "nobody holds or awaits a lock")...)
	}
	if v.shown != showLocks {
		out = append(out, section(head, v.queuesTitle(s), queueLines, height-len(out)-head, &v.queues, "there are no queues")...)
	}
	return out
}

// tightHeight is below how many lines for tables none is left empty.
const tightHeight = 12

// section is a table with head lines above, the last of which is its title.
func section(head int, title string, table []live.Line, height int, scroll *live.Scroll, none string) []live.Line {
	if height < 1 {
		return nil
	}
	if len(table) == 1 {
		table = []live.Line{{Text: none}}
	}
	rows := scroll.Lines(table, height)
	above := append(make([]live.Line, head-1), live.Line{Text: title + scroll.Rest(len(table)-1), Style: live.Reverse})
	return append(above, rows...)
}

func (v *topView) key(k live.Key) live.Action {
	switch {
	case v.help:
		v.help = false
		return live.Redraw
	case v.typing != nil:
		return v.edit(k)
	case v.orderBy(func(o orderName) bool { return o.key == k }):
		return live.Redraw
	}
	switch k {
	case 'q', live.Escape:
		return live.Quit
	case '?', 'h':
		v.help = true
	case '/':
		text := v.prefix
		v.typing = &text
	case live.Tab:
		v.shown = (v.shown + 1) % showings
	case 'p':
		v.view.Paused = !v.view.Paused
	case '+':
		v.view.Interval = max(v.view.Interval/2, minInterval)
	case '-':
		v.view.Interval = min(v.view.Interval*2, maxTopInterval)
	default:
		a := v.locks.Key(k)
		if b := v.queues.Key(k); a == live.Ignore {
			a = b
		}
		return a
	}
	return live.Redraw
}

// edit is a key while the filter is typed.
func (v *topView) edit(k live.Key) live.Action {
	text := []rune(*v.typing)
	switch {
	case k == live.Escape:
		v.typing = nil
		return live.Redraw
	case k == live.Enter:
		v.prefix, v.typing = *v.typing, nil
		v.look()
		return live.Refetch
	case k == live.Backspace && len(text) > 0:
		text = text[:len(text)-1]
	case k >= ' ' && k != live.Backspace && len(*v.typing) < maxTopPrefix:
		text = append(text, rune(k))
	}
	*v.typing = string(text)
	return live.Redraw
}

// maxTopPrefix is how much of a name can be typed.
const maxTopPrefix = 200
