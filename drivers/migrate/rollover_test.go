package migrate

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// row is what the locks guard: it remembers the largest token and refuses a
// smaller one, as a database does.
type row struct {
	mu    sync.Mutex
	token lease.Token
	busy  int // holders at work

	writes, refused, overlaps int
}

func (r *row) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy++; r.busy > 1 {
		r.overlaps++
	}
}

// write is one write under a new grant: its token must have grown.
func (r *row) write(token lease.Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	if token <= r.token {
		r.refused++
		return
	}
	r.token = token
	r.writes++
}

// fleet is replicas that take turns at rows.
type fleet struct {
	t      *testing.T
	rows   [3]row
	grants chan struct{} // one for each
	last   atomic.Int64  // nanoseconds of the last grant
	gap    atomic.Int64  // the longest time without one
}

// replica works with the locks at a URL until roll gives it the next one, and
// ends with "".
func (f *fleet) replica(ctx context.Context, url string, roll <-chan string) error {
	for url != "" {
		locks, err := lock.Open(ctx, url)
		if err != nil {
			return err
		}
		working := url
		for url == working && err == nil {
			select {
			case url = <-roll:
			default:
				err = f.cycle(ctx, locks)
			}
		}
		if closed := locks.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var turns atomic.Int64

func (f *fleet) cycle(ctx context.Context, locks *lock.Locker) error {
	n := turns.Add(1) % int64(len(f.rows))
	held, err := locks.Acquire(ctx, fmt.Sprintf("row/%d", n), &lock.Options{TTL: 5 * time.Second})
	if err != nil {
		return err
	}
	now := time.Now().UnixNano()
	if before := f.last.Swap(now); before != 0 && now-before > f.gap.Load() {
		f.gap.Store(now - before)
	}
	r := &f.rows[n]
	r.enter()
	r.write(held.Token())
	select {
	case f.grants <- struct{}{}:
	case <-ctx.Done():
	}
	return held.Release(ctx)
}

// await lets so many grants pass.
func (f *fleet) await(ctx context.Context, n int) error {
	for range n {
		select {
		case <-f.grants:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

const (
	replicas     = 10
	betweenRolls = 20 // grants while both configurations run
)

// rollOver moves ten replicas from one backend to another, one after the other
// in each step, while all of them work.
func rollOver(t *testing.T, from, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	f := &fleet{t: t, grants: make(chan struct{})}
	var all sync.WaitGroup
	rolls := make([]chan string, replicas)
	for i := range rolls {
		rolls[i] = make(chan string)
		all.Go(func() {
			if err := f.replica(ctx, from, rolls[i]); err != nil {
				fail(fmt.Errorf("replica %d: %w", i, err))
			}
		})
	}
	drain := make(chan struct{})
	for _, url := range []string{URL(from, to, ""), URL(from, to, TokensNew), to, ""} {
		for _, roll := range rolls {
			if url != "" {
				if err := f.await(ctx, betweenRolls); err != nil {
					t.Fatal(err)
				}
			}
			for sent := false; !sent; { // a replica looks between two grants
				select {
				case roll <- url:
					sent = true
				case <-f.grants:
				case <-ctx.Done():
					t.Fatal(context.Cause(ctx))
				}
			}
		}
	}
	go func() {
		for {
			select {
			case <-f.grants:
			case <-drain:
				return
			}
		}
	}()
	all.Wait()
	close(drain)
	if err := context.Cause(ctx); err != nil {
		t.Fatal(err)
	}
	writes := 0
	for i := range f.rows {
		r := &f.rows[i]
		writes += r.writes
		if r.overlaps != 0 || r.refused != 0 {
			t.Errorf("row %d: %d overlaps, %d writes refused of %d", i, r.overlaps, r.refused, r.writes)
		}
	}
	if want := 3 * replicas * betweenRolls; writes < want {
		t.Errorf("%d writes, want %d at least", writes, want)
	}
	t.Logf("%d writes, the longest time without a grant was %v", writes, time.Duration(f.gap.Load()))
}

func TestRollOverFromRedisToEtcd(t *testing.T) {
	t.Parallel()
	fresh := rand.Text() // the turn is remembered
	rollOver(t, "redis://"+realserver.SharedRedis(t).Addr()+"?timeout=10s&prefix="+fresh+":",
		"etcd://"+realserver.SharedEtcd(t).Addr()+"/"+fresh+"?timeout=10s"+lifted)
}

func TestRollOverFromRedisToTheEngine(t *testing.T) {
	t.Parallel()
	rollOver(t, "redis://"+realserver.StartRedis(t).Addr()+"?timeout=10s", "file://"+t.TempDir()+"?min_ttl=1s"+lifted)
}
