package store

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// Store is an open store. Apply is for one goroutine at a time, so that the
// order of the batches is known; everything else may be called concurrently.
type Store struct {
	opts    Options
	db      *pebble.DB
	guard   *guard
	failure *failure
	gate    gate
	room    room
	syncs   *latency
	ids     ids
	waits   waits

	lock     io.Closer // of the directory
	dataLock *pebble.Lock

	metaMu sync.Mutex
	meta   record.Meta

	applyMu sync.Mutex
	round   uint64
	wedged  atomic.Bool // Pebble panicked and may hold its locks for ever

	closeOnce sync.Once
	closeErr  error
}

// Close waits for calls under way, and closes. Batches applied and not waited
// for are made durable unless the store has failed; then Close returns what
// Err does. Idempotent.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.guard.close()
	s.gate.close()
	s.ids.close()
	s.waits.close()
	err := s.closeDB()
	if failed := s.failure.get(); failed != nil {
		err = failed
	}
	if err == nil && !s.opts.Memory {
		id := identity{Format: Format, Incarnation: s.meta.Incarnation, State: stateClosed, Round: s.round}
		err = id.write(s.opts.FS, s.opts.Dir)
	}
	return errors.Join(err, s.unlock())
}

func (s *Store) closeDB() (err error) {
	if s.wedged.Load() {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: closing: %v", r)
		}
	}()
	return s.db.Close()
}

func (s *Store) unlock() error {
	var err error
	if s.dataLock != nil {
		err = s.dataLock.Close()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Dir returns Options.Dir.
func (s *Store) Dir() string { return s.opts.Dir }

// Failed is closed when the store has failed.
func (s *Store) Failed() <-chan struct{} { return s.failure.done }

// Err returns what made the store fail, wrapped in ErrFailed; nil if it has not.
func (s *Store) Err() error { return s.failure.get() }

// maxKeptBatch is how large the memory of a batch may be that is used again for
// another: enough for a round of large bodies.
const maxKeptBatch = 8 << 20

var batchOptions = []pebble.BatchOption{pebble.WithMaxRetainedSizeBytes(maxKeptBatch)}

// NewBatch returns an empty batch, for one Apply.
func (s *Store) NewBatch() *Batch { return &Batch{store: s, b: s.db.NewBatch(batchOptions...)} }

// Apply makes the batch visible to reads and begins to make it durable. The
// batch must not be used afterwards. An error means that the store has failed
// or is closed, and nothing is known about the batch. An empty batch is
// durable at once, whatever came before it.
func (s *Store) Apply(b *Batch) (*Pending, error) {
	if err := s.gate.enter(); err != nil {
		b.Discard()
		return nil, err
	}
	defer s.gate.exit()
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	if err := s.failure.get(); err != nil {
		b.Discard()
		return nil, err
	}
	if b.Empty() {
		b.Discard()
		return &Pending{store: s}, nil
	}
	s.finish(b)
	s.room.wrote(b.Bytes())
	p := &Pending{store: s, b: b.b}
	b.b = nil
	began := time.Now()
	s.guard.applying.Store(&began)
	if err := s.commit(p); err != nil {
		s.failure.set(err)
	}
	s.guard.applying.Store(nil)
	if err := s.failure.get(); err != nil {
		return nil, err
	}
	return p, nil
}

// finish adds what every batch carries, and what was kept back.
func (s *Store) finish(b *Batch) {
	b.writeHeld()
	s.ids.enter(b.hashed)
	b.freeHeld()
	b.writeWaits()
	for _, d := range s.waits.enter(b.waits) {
		b.key = appendWaitBucket(b.key[:0], d.q, d.waitBucket)
		b.end = append(b.end[:0], upTo(b.key)...)
		b.deleteRange()
	}
	b.freeWaits()
	if b.meta {
		s.metaMu.Lock()
		b.value = record.AppendMeta(b.value[:0], &s.meta)
		s.metaMu.Unlock()
		b.key = append(b.key[:0], metaKey...)
		b.put()
	}
	s.round++
	b.key = append(b.key[:0], roundKey...)
	b.value = record.AppendNumber(b.value[:0], s.round)
	b.put()
}

func (s *Store) commit(p *Pending) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.wedged.Store(true)
			err = fmt.Errorf("pebble: %v", r)
		}
	}()
	if s.opts.Memory {
		return s.db.Apply(p.b, pebble.NoSync)
	}
	if s.opts.SyncCommit {
		return s.db.Apply(p.b, pebble.Sync)
	}
	p.syncWait = true
	return s.db.ApplyNoSyncWait(p.b, pebble.Sync)
}

// Pending is a batch on its way to the disk.
type Pending struct {
	store    *Store
	b        *pebble.Batch
	syncWait bool

	once sync.Once
	err  error
}

// Wait returns nil when the batch is durable. It must be called once at
// least, or the batch's memory is not reused; any number of goroutines may.
func (p *Pending) Wait() error {
	p.once.Do(func() {
		if p.b == nil {
			p.err = p.store.failure.get()
			return
		}
		if p.syncWait {
			if err := p.b.SyncWait(); err != nil {
				p.store.failure.set(err)
			}
		}
		// Only now: the failure is recorded before Pebble returns.
		p.err = p.store.failure.get()
		if p.err == nil {
			p.err = p.b.Close()
		}
		p.b = nil
	})
	return p.err
}

// gate lets calls in until it is closed, and close waits for them.
type gate struct {
	mu     sync.Mutex
	inside int
	empty  chan struct{} // set by close; closed when nobody is inside
}

var errClosed = fmt.Errorf("store: %w", lease.ErrClosed)

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty != nil {
		return errClosed
	}
	g.inside++
	return nil
}

func (g *gate) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.empty != nil && g.inside == 0 {
		close(g.empty)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	g.empty = make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	<-g.empty
}

// roomBytes is after how many bytes Room asks anew, however soon.
const roomBytes = 16 << 20

// room remembers how full the disk is.
type room struct {
	mu      sync.Mutex
	asked   time.Time
	written int // since asked
	full    bool
	known   bool
}

func (r *room) wrote(n int) {
	r.mu.Lock()
	r.written += n
	r.mu.Unlock()
}

// Room returns lease.ErrNoSpace while the disk has no room for more than the
// reserve: commands that make the store grow must be refused then, the others
// go on. There is room again when a quarter more than the reserve is free. It
// is cheap enough to call for each round.
func (s *Store) Room() error {
	if s.opts.ReserveBytes < 0 || s.opts.Memory {
		return nil
	}
	r := &s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known || r.written >= roomBytes || s.opts.RoomEvery < 0 || time.Since(r.asked) >= s.opts.RoomEvery {
		r.known, r.asked, r.written = true, time.Now(), 0
		need := uint64(s.opts.ReserveBytes)
		if r.full {
			need += need / 4
		}
		// Some file systems cannot say; then only Pebble finds out.
		if u, err := s.opts.FS.GetDiskUsage(s.opts.Dir); err == nil {
			r.full = u.AvailBytes < need
		}
	}
	if r.full {
		return fmt.Errorf("%w: less than %d MiB are left on the disk of %s", lease.ErrNoSpace, s.opts.ReserveBytes>>20, s.opts.Dir)
	}
	return nil
}

// Stalled says why tables cannot be written at the moment; nil if they can.
// Pebble tries again for ever, and Apply goes on until the memtables are full:
// then it waits, and the store fails after Options.StallLimit. Ask before
// deciding a round.
func (s *Store) Stalled() error {
	if s.guard.retries.Load() == 0 {
		return nil
	}
	err := s.guard.lately.Load()
	if err == nil {
		return nil
	}
	class := lease.ErrUnavailable
	if errors.Is(err, syscall.ENOSPC) {
		class = lease.ErrNoSpace
	}
	return fmt.Errorf("%w: the store waits until it can write to %s again: %w", class, s.opts.Dir, err)
}
