package lock

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of what is undone in the background.
const (
	maxUndos = 256              // under way at once; more wait in line
	undoTime = 30 * time.Second // for one: by then the backend has given it up
)

// How fast a request is repeated: doubling from minBackoff to maxBackoff.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = time.Second
)

// undoer withdraws requests whose callers have gone or whose outcome is
// unknown. Its tasks are tried again until they succeed or their time is over:
// they are a courtesy, since what they do not reach runs out by itself.
type undoer struct {
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	workers int
	line    []undo
	idle    sync.WaitGroup
}

// undo is one thing to be done.
type undo struct {
	what, name string
	do         func(ctx context.Context) error
}

func newUndoer(logger *slog.Logger) *undoer {
	u := &undoer{logger: logger}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u
}

// add does not block.
func (u *undoer) add(task undo) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.workers == maxUndos {
		u.line = append(u.line, task)
		return
	}
	u.workers++
	u.idle.Go(func() { u.work(task) })
}

// work does a task and then those that wait.
func (u *undoer) work(task undo) {
	for {
		u.try(task)
		u.mu.Lock()
		if len(u.line) == 0 {
			u.workers--
			u.mu.Unlock()
			return
		}
		task = u.line[0]
		u.line = u.line[1:]
		u.mu.Unlock()
	}
}

func (u *undoer) try(task undo) {
	ctx, cancel := context.WithTimeout(u.ctx, undoTime)
	defer cancel()
	for n := 0; ; n++ {
		err := task.do(ctx)
		if err == nil {
			return
		}
		if !transient(err) || !backoff(ctx, n) {
			u.logger.Warn("could not undo a request for a lock; it will run out", "what", task.what, "name", task.name, "err", err)
			return
		}
	}
}

// close waits for the tasks until ctx ends, and then ends them. Nothing is
// added any more.
func (u *undoer) close(ctx context.Context) {
	defer context.AfterFunc(ctx, u.cancel)()
	u.idle.Wait()
	u.cancel()
}

// backoff waits before attempt n+1 and reports whether ctx is still live.
func backoff(ctx context.Context, n int) bool {
	d := min(minBackoff<<min(n, 10), maxBackoff)
	d = d/2 + rand.N(d/2) // clients that lost one backend do not come back at once
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
