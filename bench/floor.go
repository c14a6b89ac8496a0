package bench

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of what the floor writes, in bytes.
const (
	smallBody = 256     // a commit of the log, and a message
	pageSize  = 4 << 10 // a lone sync
	largeBody = 1 << 20 // a large message
	logSize   = 64 << 20
)

// groupLog is a log to which many commit at once: a commit returns when its
// record is synced, and what is appended while a sync runs shares the next.
type groupLog struct {
	file *os.File
	wrap int64 // where it begins anew; 0: never

	mu      sync.Mutex
	pending []byte
	round   *logRound // of what is pending
	wake    chan struct{}
	closed  bool
	stopped chan struct{}
}

// logRound is what shares one sync.
type logRound struct {
	done chan struct{}
	err  error // set before done is closed
}

// newGroupLog makes a log in a file of its own. A recycled one overwrites a
// file that has its size already, as stores that keep their logs for reuse do:
// such a sync writes no metadata of the file system.
func newGroupLog(t testing.TB, recycled bool) *groupLog {
	t.Helper()
	g := &groupLog{
		file: newFile(t), round: &logRound{done: make(chan struct{})},
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if recycled {
		g.wrap = logSize
		zero := make([]byte, largeBody)
		for range logSize / largeBody {
			if _, err := g.file.Write(zero); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.file.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	go g.run()
	t.Cleanup(g.close)
	return g
}

func newFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func (g *groupLog) commit(record []byte) error {
	g.mu.Lock()
	g.pending = append(g.pending, record...)
	round := g.round
	g.mu.Unlock()
	g.signal()
	<-round.done
	return round.err
}

func (g *groupLog) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *groupLog) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.signal()
	<-g.stopped
}

// run writes and syncs round after round.
func (g *groupLog) run() {
	defer close(g.stopped)
	var spare []byte
	var at int64
	for range g.wake {
		g.mu.Lock()
		records, round, closed := g.pending, g.round, g.closed
		if len(records) > 0 {
			g.pending, g.round = spare[:0], &logRound{done: make(chan struct{})}
		}
		g.mu.Unlock()
		if len(records) > 0 {
			if g.wrap > 0 && at+int64(len(records)) > g.wrap {
				at = 0
			}
			_, err := g.file.WriteAt(records, at)
			at += int64(len(records))
			round.err = errors.Join(err, unix.Fdatasync(int(g.file.Fd())))
			close(round.done)
			spare = records
		}
		if closed {
			return
		}
	}
}

// runLog measures the commits of so many at once.
func runLog(workers int, recycled bool) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, _ *Servers, span time.Duration) Figures {
		t.Helper()
		g := newGroupLog(t, recycled)
		record := randomBody(smallBody)
		return drive(t, span, workers, func(int) error { return g.commit(record) })
	}
}

// runSyncs measures appends of size bytes, each synced, one after the other.
func runSyncs(size int) func(testing.TB, *Servers, time.Duration) Figures {
	return func(t testing.TB, _ *Servers, span time.Duration) Figures {
		t.Helper()
		f := newFile(t)
		body := randomBody(size)
		figures := drive(t, span, 1, func(int) error {
			_, err := f.Write(body)
			return errors.Join(err, unix.Fdatasync(int(f.Fd())))
		})
		if size == largeBody {
			return Figures{MiBRate: figures[Rate]}
		}
		return figures
	}
}
