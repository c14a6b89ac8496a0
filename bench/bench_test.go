package bench

import (
	"flag"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// Flags of the whole form, which `make bench` runs.
var (
	whole  = flag.Bool("whole", false, "measure for as long as it takes, and print the tables")
	rounds = flag.Int("rounds", 5, "of the whole form: how often each line is measured")
	only   = flag.String("lines", "", "measure only lines whose key matches")
	out    = flag.String("out", "", "of the whole form: write the results to this file")
	more   = flag.Bool("append", false, "add the rounds to those that the file has from an earlier run")
)

func TestMain(m *testing.M) {
	status := realserver.Run(m)
	if err := removeProgram(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// Of the short form: so much of each span, so that every line runs.
const shortShare = 0.1

// TestBench measures all lines: with -whole for their figures, otherwise to
// see that each of them works and finds what it is to find.
func TestBench(t *testing.T) {
	p := Plan{Lines: *only, Rounds: 1, Share: shortShare, Progress: io.Discard}
	if *whole {
		p.Rounds, p.Share, p.Progress = *rounds, 1, os.Stderr
	} else if testing.Verbose() {
		p.Progress = t.Output()
	}
	r := Measure(t, p)
	for _, l := range r.Lines {
		for figure, values := range l.Figures {
			for _, v := range values {
				if v < 0 || v == 0 && figure != LeastMost { // some locks let workers starve
					t.Errorf("%s: %s is %v", l.Key, figure, v)
				}
			}
		}
	}
	if !*whole {
		return
	}
	if *more {
		before, err := Read(*out)
		if err != nil {
			t.Fatal(err)
		}
		before.Append(r)
		r = before
	}
	if *out != "" {
		if err := r.Write(*out); err != nil {
			t.Error(err)
		}
	}
	if err := r.Print(os.Stdout); err != nil {
		t.Error(err)
	}
}
