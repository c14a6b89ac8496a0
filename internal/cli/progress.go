package cli

import (
	"fmt"
	"io"
	"time"
)

// progressInterval is how often a line of progress is drawn anew.
const progressInterval = 200 * time.Millisecond

// progress is a line on a terminal that is overwritten; nothing is drawn
// where no person watches. One goroutine uses it at a time.
type progress struct {
	w     io.Writer // nil: not a terminal
	last  time.Time
	drawn bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{}
	if isTerminal(w) {
		p.w = w
	}
	return p
}

// show draws what text returns if it is time to.
func (p *progress) show(text func() string) {
	if p.w == nil || time.Since(p.last) < progressInterval {
		return
	}
	p.last, p.drawn = time.Now(), true
	fmt.Fprintf(p.w, "\r\x1b[K%s", text())
}

// clear removes the line.
func (p *progress) clear() {
	if p.drawn {
		p.drawn = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
