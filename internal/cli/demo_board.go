package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/examples/orders/shop"
	"github.com/lockkeeper/lockkeeper/internal/cli/live"
)

const (
	boardDrawn  = 250 * time.Millisecond
	boardAnswer = 500 * time.Millisecond // what the daemon has to answer in: it may be dead
	boardNames  = 20
	boardEvents = 4
)

// demoBoard is what a person sees of a demo that runs: on a terminal tables,
// elsewhere a line for each thing that happens. Its methods may be called
// concurrently.
type demoBoard struct {
	d     *demo
	block *live.Block
	began time.Time

	mu     sync.Mutex
	phase  string
	placed int
	unsure int
	events []string
	states map[*minion]string // of services that do not run, and why
	times  map[*minion]int    // how often killed or paused
}

func newDemoBoard(d *demo) *demoBoard {
	return &demoBoard{
		d: d, block: live.NewBlock(d.Err), began: time.Now(), phase: "orders come in",
		states: map[*minion]string{}, times: map[*minion]int{},
	}
}

// happened notes something.
func (b *demoBoard) happened(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, time.Now().Format(time.TimeOnly)+"  "+text)
	b.events = b.events[max(0, len(b.events)-boardEvents):]
	if !b.block.Shown() {
		b.d.say("%s", text)
	}
}

// is says in which state a process is; "" is that it runs.
func (b *demoBoard) is(m *minion, state string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.states[m] = state; state != "" {
		b.times[m]++
	}
}

func (b *demoBoard) ordered(placed, unsure int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.placed, b.unsure = placed, unsure
}

// finish says that no more is ordered.
func (b *demoBoard) finish() {
	b.mu.Lock()
	b.phase = "the services finish"
	b.mu.Unlock()
	b.happened("no more orders and no more kills; the services finish")
}

// show draws until stop is called, which removes the picture.
func (b *demoBoard) show(ctx context.Context) (stop func(), err error) {
	if !b.block.Shown() {
		return func() {}, nil
	}
	t := &top{app: b.d.app, names: boardNames, locksBy: lockOrders[0], queuesBy: queueOrders[len(queueOrders)-1]}
	source, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(boardDrawn)
		defer tick.Stop()
		var last *topSample
		for {
			once, cancel := context.WithTimeout(ctx, boardAnswer)
			sample, err := source.fetch("")(once)
			cancel()
			if err == nil {
				last = sample
			}
			b.block.Draw(b.lines(t, last, err != nil))
			select {
			case <-tick.C:
			case <-ctx.Done():
				b.block.Clear()
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
		_ = source.Close() // it only looked
	}), nil
}

func (b *demoBoard) lines(t *top, s *topSample, away bool) []live.Line {
	counts := b.d.db.Counts()
	b.mu.Lock()
	defer b.mu.Unlock()
	took := time.Since(b.began)
	lines := []live.Line{
		{Style: live.Bold, Text: fmt.Sprintf("demo  %s  %s of %v  %s  (Ctrl-C ends it)",
			bar(took.Seconds()/b.d.duration.Seconds()), brief(min(took, b.d.duration).Truncate(time.Second)), b.d.duration, b.phase)},
		{Text: b.orders(&counts)},
		{Text: fmt.Sprintf("stock rows written %d, stale writes refused %d, repeated work absorbed %d", counts.Updates, counts.Stale, counts.Repeated)},
		{Text: b.processes()},
	}
	for i := range boardEvents {
		text := ""
		if i < len(b.events) {
			text = "  " + b.events[i]
		}
		lines = append(lines, live.Line{Text: text, Style: live.Dim})
	}
	if s == nil {
		return lines
	}
	tables := queueRows(t.queuesBy.sort(s.queues.rows)).Lines(0)
	tables = append(tables, live.Line{})
	tables = append(tables, lockRows(t.locksBy.sort(s.locks.rows)).Lines(0)...)
	if away {
		lines = append(lines, live.Line{Text: "the daemon is away; what it said last:", Style: live.Alarm})
		for i := range tables {
			tables[i].Style = live.Dim
		}
	} else {
		lines = append(lines, live.Line{})
	}
	return append(lines, tables...)
}

func (b *demoBoard) orders(c *shop.Counts) string {
	text := fmt.Sprintf("orders confirmed %d, charged %d, finished %d", b.placed, c.Charged, c.Finished)
	if b.unsure > 0 {
		text += fmt.Sprintf(", placed again %d", b.unsure)
	}
	return text
}

// processes says which of them run, and how often each was killed or paused.
func (b *demoBoard) processes() string {
	parts := []string{b.process(b.d.daemon)}
	for _, w := range b.d.workers {
		parts = append(parts, b.process(w))
	}
	return strings.Join(parts, ", ")
}

func (b *demoBoard) process(m *minion) string {
	text := strings.TrimPrefix(m.name, "the ")
	if n := b.times[m]; n > 0 {
		text += fmt.Sprintf(" x%d", n)
	}
	if state := b.states[m]; state != "" {
		text += " (" + state + ")"
	}
	return text
}
