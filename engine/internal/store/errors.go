package store

import (
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Classes of errors; compare with errors.Is.
var (
	// ErrLocked: the directory is open already, in this process or another.
	ErrLocked = errors.New("store is open already")
	// ErrFormat: the directory is not a store, or of a format that this
	// program does not know. Nothing was changed in it.
	ErrFormat = errors.New("store format not understood")
	// ErrCorrupt: what is on disk is not what was written.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrFailed: an earlier write or sync failed, see Store.Err. It matches
	// lease.ErrUnavailable.
	ErrFailed = fmt.Errorf("store has failed: %w", lease.ErrUnavailable)
)

// corrupt says that the value under key is not what was stored.
func corrupt(key []byte, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, keyName(key), err)
}
