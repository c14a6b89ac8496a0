package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestResultsLastAndGo: a result is there to the last nanosecond, what is in
// the store is dropped a while after, and what is in memory does not grow with
// the number of results.
func TestResultsLastAndGo(t *testing.T) {
	for _, keep := range []time.Duration{time.Second, 3 * time.Minute, 3*time.Minute + 1, time.Hour, 24 * time.Hour, queuedriver.MaxResultFor} {
		t.Run(keep.String(), func(t *testing.T) {
			m := newCommitModel(t, 1)
			const n = 500
			for i := range n {
				m.now.Wall += int64(keep) / 40
				m.tick()
				c := &Commit{Txn: &queuedriver.Txn{ID: fmt.Sprint("t", i), ResultFor: keep}}
				m.c.Commit(m.now, m.store, m.store, c)
				if c.Err != nil {
					t.Fatal(c.Err)
				}
				m.endRound()
				if kept := len(m.store.results); kept > 40*4*4+1 { // the class is up to four times too long, a bucket a third
					t.Fatalf("%d results are kept, of which 40 count", kept)
				}
				if buckets := len(m.c.results.buckets[classOf(keep)]); buckets > resultBuckets+2 {
					t.Fatalf("%d buckets are known", buckets)
				}
			}
			last := fmt.Sprint("t", n-1)
			m.now.Wall += int64(keep) - 1
			m.tick()
			c := &ReadResult{ID: last}
			m.c.Read(m.now, m.store, c)
			if c.Err != nil {
				t.Errorf("a nanosecond before its end: %v", c.Err)
			}
			m.now.Wall++
			c = &ReadResult{ID: last}
			m.c.Read(m.now, m.store, c)
			if !errors.Is(c.Err, lease.ErrNotFound) {
				t.Errorf("at its end: %v, %v", c.Result, c.Err)
			}
			m.now.Wall += 6 * int64(max(keep, time.Minute))
			m.tick()
			m.endRound()
			if len(m.store.results) > 0 {
				t.Errorf("%d results are left for ever", len(m.store.results))
			}
		})
	}
}

// TestResultBucketOfAnotherProgram: what this one does not know stays.
func TestResultBucketOfAnotherProgram(t *testing.T) {
	m := newCommitModel(t, 1)
	m.c.RestoreBucket(resultClasses, 1)
	m.tick()
	c := &ReadResult{ID: "x"}
	m.c.Read(m.now, m.store, c)
	if !errors.Is(c.Err, lease.ErrNotFound) {
		t.Error(c.Err)
	}
}
