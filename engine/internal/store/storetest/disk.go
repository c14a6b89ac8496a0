// Package storetest has a disk for tests: in memory, and able to crash, to
// fail, to stall, to be full and to rot, each at a chosen moment.
package storetest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Kind of an Op.
type Kind string

// What an Op does.
const (
	Write  Kind = "write"  // to a file
	Sync   Kind = "sync"   // of a file or directory
	Change Kind = "change" // of a directory: create, rename, remove
)

// Op is one thing done to the disk that a crash can undo.
type Op struct {
	Kind Kind
	Path string
	N    int  // bytes of a Write
	At   bool // a Write somewhere else than behind the one before
}

// Disk is a file system in memory. Its methods may be called concurrently.
type Disk struct {
	vfs.FS
	mem *vfs.MemFS

	// Calls of MemFS that take its lock for clones twice would deadlock with
	// a clone in between.
	cloning sync.RWMutex

	mu    sync.Mutex
	hook  func(Op) error
	quota int64
	stall chan struct{}
}

// NewDisk returns an empty disk without a quota.
func NewDisk() *Disk { return newDisk(vfs.NewCrashableMem()) }

func newDisk(mem *vfs.MemFS) *Disk { return &Disk{FS: mem, mem: mem} }

// OnOp has fn called before every Op, on the goroutine that does it. If fn
// returns an error the Op fails with it and does nothing. nil removes fn.
func (d *Disk) OnOp(fn func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = fn
}

// Crash returns a disk as it might be after a power loss now: what was synced,
// and each block and directory entry that was not with a probability of
// unsyncedPercent. The disk itself goes on, and nothing is locked on the new one.
func (d *Disk) Crash(unsyncedPercent int, seed int64) *Disk {
	d.cloning.Lock()
	defer d.cloning.Unlock()
	return newDisk(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(uint64(seed), 0))}))
}

// SetQuota makes writes fail with ENOSPC when the files would be more than n
// bytes together, and GetDiskUsage say so. 0 is no quota.
func (d *Disk) SetQuota(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.quota = n
}

// StallSyncs makes all syncs wait until release is called.
func (d *Disk) StallSyncs() (release func()) {
	c := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stall = c
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stall == c {
			d.stall = nil
			close(c)
		}
	}
}

// Used is the size of all files below dir together.
func (d *Disk) Used(dir string) (n int64) {
	for _, f := range d.Files(dir) {
		if info, err := d.mem.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Files lists the files below dir in byte order of their paths.
func (d *Disk) Files(dir string) (files []string) {
	names, err := d.mem.List(dir)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	for _, n := range names {
		p := d.mem.PathJoin(dir, n)
		info, err := d.mem.Stat(p)
		switch {
		case err != nil:
		case info.IsDir():
			files = append(files, d.Files(p)...)
		default:
			files = append(files, p)
		}
	}
	return files
}

// Flip turns one bit of a file around. It panics if the file has no such bit.
func (d *Disk) Flip(path string, offset int64, bit uint) {
	f, err := d.mem.Open(path)
	check(err)
	b, err := io.ReadAll(f)
	check(err)
	check(f.Close())
	b[offset] ^= 1 << bit
	d.Put(path, b)
}

// Put writes a file and syncs it.
func (d *Disk) Put(path string, b []byte) {
	check(d.mem.MkdirAll(d.mem.PathDir(path), 0o755))
	f, err := d.mem.Create(path, vfs.WriteCategoryUnspecified)
	check(err)
	_, err = f.Write(b)
	check(err)
	check(f.Sync())
	check(f.Close())
	dir, err := d.mem.OpenDir(d.mem.PathDir(path))
	check(err)
	check(dir.Sync())
	check(dir.Close())
}

func check(err error) {
	if err != nil {
		panic(fmt.Sprintf("storetest: %v", err))
	}
}

// before is called for every Op.
func (d *Disk) before(op Op) error {
	d.mu.Lock()
	hook, quota, stall := d.hook, d.quota, d.stall
	d.mu.Unlock()
	if hook != nil {
		if err := hook(op); err != nil {
			return err
		}
	}
	if op.Kind == Sync && stall != nil {
		<-stall
	}
	if op.Kind == Write && quota > 0 && d.Used("/")+int64(op.N) > quota {
		return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
	}
	return nil
}

// GetDiskUsage implements vfs.FS.
func (d *Disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	quota := d.quota
	d.mu.Unlock()
	if quota == 0 {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	used := d.Used("/")
	return vfs.DiskUsage{AvailBytes: uint64(max(quota-used, 0)), TotalBytes: uint64(quota), UsedBytes: uint64(used)}, nil
}

// Unwrap implements vfs.FS.
func (d *Disk) Unwrap() vfs.FS { return d.mem }

func (d *Disk) file(path string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{File: f, d: d, path: path}, nil
}

// Create implements vfs.FS.
func (d *Disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.before(Op{Kind: Change, Path: name}); err != nil {
		return nil, err
	}
	d.cloning.RLock()
	defer d.cloning.RUnlock()
	f, err := d.FS.Create(name, c)
	return d.file(name, f, err)
}

// OpenReadWrite implements vfs.FS.
func (d *Disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	d.cloning.RLock()
	defer d.cloning.RUnlock()
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return d.file(name, f, err)
}

// OpenDir implements vfs.FS.
func (d *Disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.file(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (d *Disk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.before(Op{Kind: Change, Path: newname}); err != nil {
		return nil, err
	}
	d.cloning.RLock()
	defer d.cloning.RUnlock()
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.file(newname, f, err)
}

// Rename implements vfs.FS.
func (d *Disk) Rename(oldname, newname string) error {
	if err := d.before(Op{Kind: Change, Path: newname}); err != nil {
		return err
	}
	return d.FS.Rename(oldname, newname)
}

// Remove implements vfs.FS.
func (d *Disk) Remove(name string) error {
	if err := d.before(Op{Kind: Change, Path: name}); err != nil {
		return err
	}
	return d.FS.Remove(name)
}

// Lock implements vfs.FS.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.cloning.RLock()
	defer d.cloning.RUnlock()
	return d.FS.Lock(name)
}

type file struct {
	vfs.File
	d    *Disk
	path string
}

func (f *file) Write(b []byte) (int, error) {
	if err := f.d.before(Op{Kind: Write, Path: f.path, N: len(b)}); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.before(Op{Kind: Write, Path: f.path, N: len(b), At: true}); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *file) Sync() error {
	if err := f.d.before(Op{Kind: Sync, Path: f.path}); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *file) SyncData() error {
	if err := f.d.before(Op{Kind: Sync, Path: f.path}); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *file) SyncTo(n int64) (bool, error) {
	if err := f.d.before(Op{Kind: Sync, Path: f.path}); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}
