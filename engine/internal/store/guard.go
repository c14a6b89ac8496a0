package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that Pebble gets. It makes the first failed write
// or sync of a log, a manifest or a directory the last thing that happens on
// disk: it records the failure, and from then on takes writes, syncs, renames
// and removals and does nothing, so that Pebble sees no error.
//
// Pebble must not see one. After a failed write of its log it panics in the
// next Apply with the commit mutex held (so that Close blocks for ever), and
// after others it calls Logger.Fatalf and goes on as if nothing had happened.
// What it believes after a failure does not matter: package store asks
// failure before it believes anything that Pebble says.
//
// Errors in tables are passed on: Pebble tries the flush or compaction again
// and loses nothing. It tries again at once and for ever, so the guard slows
// that down.
type guard struct {
	vfs.FS
	failure *failure
	syncs   *latency // of the logs

	armed   atomic.Bool // not while Pebble opens: then errors are its result
	closing chan struct{}
	end     sync.Once
	retries atomic.Int64                 // failed writes of tables, cleared by one that worked
	lately  atomic.Pointer[os.PathError] // the last of them

	stallLimit time.Duration
	applying   atomic.Pointer[time.Time] // since when an Apply is under way; nil: none is
}

// retryPause is how long a failed write of a table takes at least.
const retryPause = 100 * time.Millisecond

func newGuard(fs vfs.FS, f *failure, stallLimit time.Duration) *guard {
	return &guard{FS: fs, failure: f, stallLimit: stallLimit, closing: make(chan struct{})}
}

// close lets nothing wait any more. If flushes fail, a writer can be waiting
// for one of them, and Close for that writer: then the disk is given up, for
// the log has everything.
func (g *guard) close() {
	g.end.Do(func() { close(g.closing) })
	if g.retries.Load() > 0 {
		g.failure.set(errors.New("closed while flushes failed"))
	}
}

// dead reports that nothing may reach the disk any more.
func (g *guard) dead() bool { return g.armed.Load() && g.failure.failed() }

// vital reports whether a failed write to the file is the end.
func vital(name string) bool {
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

func isLog(name string) bool      { return strings.HasSuffix(name, ".log") }
func isManifest(base string) bool { return strings.HasPrefix(base, "MANIFEST-") }

// check decides what Pebble gets to see of err.
func (g *guard) check(op, name string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	if vital(name) {
		g.failure.set(&os.PathError{Op: op, Path: name, Err: err})
		return nil
	}
	g.lately.Store(&os.PathError{Op: op, Path: name, Err: err})
	g.failTable()
	return err
}

func (g *guard) failTable() {
	g.retries.Add(1)
	select {
	case <-g.closing:
		g.failure.set(errors.New("closed while flushes failed"))
	case <-g.failure.done:
	case <-time.After(retryPause):
	}
	if began := g.applying.Load(); began != nil && time.Since(*began) > g.stallLimit {
		g.failure.set(fmt.Errorf("no table could be written for %v: %w", g.stallLimit, g.lately.Load()))
	}
}

// flushCategory is what Pebble calls the writes of a flush.
const flushCategory = "pebble-memtable-flush"

// create stands for all ways to make a file. Of a dead store a flush
// succeeds, so that nobody waits for it for ever; a compaction does not, for
// it would read back what it wrote.
func (g *guard) create(op, name string, c vfs.DiskWriteCategory, do func() (vfs.File, error)) (vfs.File, error) {
	if g.dead() {
		if vital(name) || c == flushCategory {
			return nullFile{}, nil
		}
		g.failTable()
		return nil, &os.PathError{Op: op, Path: name, Err: syscall.EIO}
	}
	f, err := do()
	if err != nil {
		if err = g.check(op, name, err); err != nil {
			return nil, err
		}
		return nullFile{}, nil
	}
	return &guardedFile{File: f, g: g, name: name, flush: c == flushCategory}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create("create", name, c, func() (vfs.File, error) {
		f, err := g.FS.Create(name, c)
		switch {
		case err != nil:
			return nil, err
		case isLog(name):
			return newLogFile(f), nil
		case isManifest(g.FS.PathBase(name)):
			// Pebble makes the marker that names it durable together with its
			// own name: a crash could leave the marker alone.
			if err := syncDir(g.FS, g.FS.PathDir(name)); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
		return f, nil
	})
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.create("open", name, c, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create("reuse", newname, c, func() (vfs.File, error) {
		f, err := g.FS.ReuseForWrite(oldname, newname, c)
		if err == nil && isLog(newname) {
			return newLogFile(f), nil
		}
		return f, err
	})
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, g: g, name: name}, nil
}

func (g *guard) change(op, name string, do func() error) error {
	if g.dead() {
		return nil
	}
	return g.check(op, name, do())
}

func (g *guard) Link(oldname, newname string) error {
	return g.change("link", newname, func() error { return g.FS.Link(oldname, newname) })
}

func (g *guard) Rename(oldname, newname string) error {
	return g.change("rename", newname, func() error { return g.FS.Rename(oldname, newname) })
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	return g.change("mkdir", dir, func() error { return g.FS.MkdirAll(dir, perm) })
}

// Remove passes errors on: a file that stays is no harm.
func (g *guard) Remove(name string) error {
	if g.dead() {
		return nil
	}
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	if g.dead() {
		return nil
	}
	return g.FS.RemoveAll(name)
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

type guardedFile struct {
	vfs.File
	g     *guard
	name  string
	flush bool
}

// do carries out a write or sync of the file, or pretends to.
func (f *guardedFile) do(op string, write func() error) error {
	if f.g.dead() {
		if vital(f.name) || f.flush {
			return nil
		}
		return &os.PathError{Op: op, Path: f.name, Err: syscall.EIO}
	}
	err := f.g.check(op, f.name, write())
	if f.flush && f.g.dead() {
		return nil
	}
	return err
}

func (f *guardedFile) Write(b []byte) (int, error) {
	n := 0
	err := f.do("write", func() (err error) { n, err = f.File.Write(b); return err })
	if err != nil {
		return n, err
	}
	return len(b), nil
}

func (f *guardedFile) WriteAt(b []byte, off int64) (int, error) {
	n := 0
	err := f.do("write", func() (err error) { n, err = f.File.WriteAt(b, off); return err })
	if err != nil {
		return n, err
	}
	return len(b), nil
}

func (f *guardedFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *guardedFile) sync(do func() error) error {
	begin := time.Now()
	err := f.do("sync", do)
	switch {
	case err != nil || f.g.dead():
	case isLog(f.name):
		f.g.syncs.add(time.Since(begin))
	case !vital(f.name):
		f.g.retries.Store(0)
	}
	return err
}

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.do("sync", func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Preallocate is a wish: a failure shows in the write, if it matters.
func (f *guardedFile) Preallocate(offset, length int64) error {
	if f.g.dead() {
		return nil
	}
	err := f.File.Preallocate(offset, length)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

func (f *guardedFile) Close() error {
	err := f.File.Close()
	if f.g.dead() {
		return nil
	}
	return f.g.check("close", f.name, err)
}

// nullFile takes everything and keeps nothing.
type nullFile struct{}

func (nullFile) Close() error                           { return nil }
func (nullFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (nullFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nullFile) Write(b []byte) (int, error)            { return len(b), nil }
func (nullFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (nullFile) Preallocate(int64, int64) error         { return nil }
func (nullFile) Stat() (vfs.FileInfo, error)            { return nullInfo{}, nil }
func (nullFile) Sync() error                            { return nil }
func (nullFile) SyncTo(int64) (bool, error)             { return false, nil }
func (nullFile) SyncData() error                        { return nil }
func (nullFile) Prefetch(int64, int64) error            { return nil }
func (nullFile) Fd() uintptr                            { return vfs.InvalidFd }

type nullInfo struct{}

func (nullInfo) Name() string           { return "" }
func (nullInfo) Size() int64            { return 0 }
func (nullInfo) Mode() os.FileMode      { return 0 }
func (nullInfo) ModTime() time.Time     { return time.Time{} }
func (nullInfo) IsDir() bool            { return false }
func (nullInfo) Sys() any               { return nil }
func (nullInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
