package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// Open opens the store, or makes it. See ErrLocked, ErrFormat, ErrCorrupt;
// other errors are the file system's.
func Open(options Options) (*Store, error) {
	o := options.withDefaults()
	if o.FS == vfs.Default {
		// One name for one directory: the lock is by name within a process.
		dir, err := realPath(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		o.Dir = dir
	}
	s := &Store{opts: o, failure: newFailure(o.Logger), syncs: new(latency)}
	s.guard = newGuard(o.FS, s.failure, o.StallLimit)
	s.guard.syncs = s.syncs
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Dir, errors.Join(err, s.unlock()))
	}
	return s, nil
}

func realPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		return target, nil
	}
	// It will be made; what is there of it can still be a link.
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return dir, nil //nolint:nilerr // making it will say what is wrong
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

func (s *Store) open() error {
	fsys, dir := s.opts.FS, s.opts.Dir
	if err := s.enterDir(); err != nil {
		return err
	}
	id, err := readIdentity(fsys, dir)
	if err != nil {
		return err
	}
	if id == nil {
		id = &identity{Format: Format, State: stateNew}
		rand.Read(id.Incarnation[:])
		if err := id.write(fsys, dir); err != nil {
			return err
		}
	}
	if id.State != stateNew {
		if err := checkManifest(fsys, fsys.PathJoin(dir, dataName), id.State == stateClosed); err != nil {
			return err
		}
	}
	if err := s.openDB(id); err != nil {
		return err
	}
	err = s.start(id)
	if err == nil {
		err = s.openIDs()
	}
	if err == nil {
		err = s.openWaits()
	}
	if err != nil {
		s.guard.close()
		return errors.Join(err, s.closeDB())
	}
	return nil
}

// enterDir makes the directory if need be, and locks it, unless it is
// somebody else's.
func (s *Store) enterDir() error {
	fsys, dir := s.opts.FS, s.opts.Dir
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = fsys.MkdirAll(dir, 0o700); err == nil {
			err = syncDir(fsys, fsys.PathDir(dir))
		}
	}
	if err != nil {
		return err
	}
	foreign := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == lockName || n == identityTemp })
	if len(foreign) > 0 && !slices.Contains(names, identityName) {
		return fmt.Errorf("%w: the directory has no %s file but others (%s); a new store needs an empty directory", ErrFormat, identityName, foreign[0])
	}
	lock, err := fsys.Lock(fsys.PathJoin(dir, lockName))
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w, by this process or another (%w)", ErrLocked, err)
	}
	s.lock = lock
	return nil
}

// openDB opens Pebble. What Pebble panics about while it opens is what it
// found on disk.
func (s *Store) openDB(id *identity) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	data := s.opts.FS.PathJoin(s.opts.Dir, dataName)
	if err := s.opts.FS.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if s.dataLock, err = pebble.LockDirectory(data, s.guard); err != nil {
		return fmt.Errorf("%w (%w)", ErrLocked, err)
	}
	o := s.pebbleOptions()
	o.ErrorIfNotExists = id.State != stateNew
	o.Lock = s.dataLock
	s.db, err = pebble.Open(data, o)
	switch {
	case err == nil:
		return nil
	case pebble.IsCorruptionError(err), errors.Is(err, pebble.ErrDBDoesNotExist), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.guard,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		Logger:                      pebbleLogger{log: s.opts.Logger, failure: s.failure},
		Merger:                      ackMerger,
		MemTableSize:                uint64(s.opts.MemTableBytes),
		MemTableStopWritesThreshold: 3,
		CacheSize:                   64 << 20,
		DisableWAL:                  s.opts.Memory,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	if !s.opts.Memory {
		o.FlushDelayDeleteRange = s.opts.FreeAfter
	}
	if s.opts.Memory {
		o.MemTableStopWritesThreshold = 2
		o.CacheSize = 8 << 20
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { s.opts.Logger.Warn("store: background work failed, will be tried again", "err", err) },
		// Without this one Pebble takes damage to a table for fatal. Who reads
		// what is damaged gets ErrCorrupt; the rest goes on.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.opts.Logger.Error("store: a file is damaged", "path", i.Path, "err", i.Details)
		},
	}
	return o
}

// start checks that the data are those of the directory, or makes the first
// record, and marks the store as open.
func (s *Store) start(id *identity) error {
	meta, err := s.readMeta()
	switch {
	case err != nil:
		return err
	case meta != nil:
		s.meta = *meta
	case id.State != stateNew:
		return fmt.Errorf("%w: the store's own record is missing", ErrCorrupt)
	default:
		s.meta = record.Meta{Format: Format, Incarnation: id.Incarnation, NextQueueID: 1}
		if err := s.db.Set(metaKey, record.Seal(metaKey, record.AppendMeta(nil, &s.meta)), s.firstWrite()); err != nil {
			return err
		}
	}
	if s.meta.Format != Format {
		return fmt.Errorf("%w: data of format %d, this program knows %d", ErrFormat, s.meta.Format, Format)
	}
	if s.meta.Incarnation != id.Incarnation {
		return fmt.Errorf("%w: %s is of another store than %s", ErrCorrupt, dataName, identityName)
	}
	if s.round, err = s.readRound(); err != nil {
		return err
	}
	if id.State == stateClosed && s.round != id.Round {
		return fmt.Errorf("%w: it was closed after round %d, but the last round that can be read is %d: a log or manifest has lost its end", ErrCorrupt, id.Round, s.round)
	}
	if err := s.indexDelayed(); err != nil {
		return err
	}
	if err := s.failure.get(); err != nil {
		return err
	}
	now := identity{Format: Format, Incarnation: s.meta.Incarnation, State: stateOpen, Round: s.round}
	if err := now.write(s.opts.FS, s.opts.Dir); err != nil {
		return err
	}
	s.guard.armed.Store(true)
	return s.failure.get()
}

func (s *Store) firstWrite() *pebble.WriteOptions {
	if s.opts.Memory {
		return pebble.NoSync
	}
	return pebble.Sync
}

func (s *Store) readMeta() (*record.Meta, error) {
	v, err := s.get(metaKey)
	if v == nil || err != nil {
		return nil, err
	}
	m, err := record.DecodeMeta(v)
	if err != nil {
		return nil, corrupt(metaKey, err)
	}
	return m, nil
}

func (s *Store) readRound() (uint64, error) {
	v, err := s.get(roundKey)
	if v == nil || err != nil {
		return 0, err
	}
	n, err := record.DecodeNumber(v)
	if err != nil {
		return 0, corrupt(roundKey, err)
	}
	return n, nil
}
