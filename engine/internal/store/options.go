package store

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultReserveBytes is how much of the disk is kept for what must go through
// when it is full: acks, releases, deletes, and Pebble's own compactions.
const DefaultReserveBytes = 256 << 20

// DefaultRoomEvery is how often Room asks the file system.
const DefaultRoomEvery = 100 * time.Millisecond

// DefaultStallLimit is how long an Apply may wait for a flush that fails.
const DefaultStallLimit = 10 * time.Second

// DefaultFreeAfter is how long the space of dropped segments may stay taken.
const DefaultFreeAfter = 10 * time.Second

// Options say where a store is. Only Dir is needed, or Memory.
type Options struct {
	Dir string // made if it does not exist, with its parents

	// FS is the file system; nil is the operating system's.
	FS vfs.FS

	// Memory keeps everything in memory: nothing is synced, Close forgets
	// it. Dir and FS are not used.
	Memory bool

	// Logger gets Pebble's errors and slow events; nil discards them.
	Logger *slog.Logger

	// ReserveBytes of the disk that Room keeps free; 0 means
	// DefaultReserveBytes, negative none.
	ReserveBytes int64

	// RoomEvery is how old Room's knowledge may be; 0 means
	// DefaultRoomEvery, negative asks each time.
	RoomEvery time.Duration

	// SyncCommit commits by Pebble's documented Commit(Sync) instead of its
	// split apply and wait: simpler, and one round at a time.
	SyncCommit bool

	// StallLimit is how long an Apply may wait for a flush that fails again
	// and again, before the store fails: better an end with a reason than
	// callers that hang. 0 means DefaultStallLimit.
	StallLimit time.Duration

	// FreeAfter is how long what was dropped may wait in memory before it is
	// written to a table, from where compactions free its space: without a
	// bound it waits until the memtable is full, which after a drain may be
	// never. 0 means DefaultFreeAfter. Not for Memory.
	FreeAfter time.Duration

	// MemTableBytes of each memtable; 0 means 64 MiB, or 8 MiB for Memory.
	// Tests use small ones to have many flushes.
	MemTableBytes int
}

func (o *Options) withDefaults() Options {
	c := *o
	if c.Memory {
		c.Dir, c.FS = "/", vfs.NewMem()
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = DefaultReserveBytes
	}
	if c.RoomEvery == 0 {
		c.RoomEvery = DefaultRoomEvery
	}
	if c.StallLimit == 0 {
		c.StallLimit = DefaultStallLimit
	}
	if c.FreeAfter == 0 {
		c.FreeAfter = DefaultFreeAfter
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = 64 << 20
		if c.Memory {
			c.MemTableBytes = 8 << 20
		}
	}
	return c
}
