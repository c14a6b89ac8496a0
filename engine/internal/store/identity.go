package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of what this package writes.
const Format = 1

// Names in the store's directory.
const (
	identityName = "LOCKKEEPER"
	identityTemp = "LOCKKEEPER.tmp"
	lockName     = "LOCK"
	dataName     = "data"
)

// States of a store.
const (
	stateNew    = "new"    // being made: there may be no data yet
	stateOpen   = "open"   // open, or not closed cleanly
	stateClosed = "closed" // with Round as its last round
)

// identity is the content of the LOCKKEEPER file: lines of a name and a value
// in fixed order. The first two lines, and the last one with the checksum of
// those before it, are the same in every format.
type identity struct {
	Format      uint32
	Incarnation [16]byte
	State       string
	Round       uint64
}

const identityTitle = "lockkeeper store\n"

func (id *identity) text() string {
	body := fmt.Sprintf("%sformat %d\nincarnation %x\nstate %s\nround %d\n", identityTitle, id.Format, id.Incarnation, id.State, id.Round)
	return fmt.Sprintf("%schecksum %016x\n", body, xxhash.Sum64String(body))
}

// parseIdentity is the inverse of text.
func parseIdentity(s string) (*identity, error) {
	rest, ok := strings.CutPrefix(s, identityTitle)
	if !ok {
		return nil, fmt.Errorf("%w: does not begin with %q", ErrFormat, strings.TrimSpace(identityTitle))
	}
	at := strings.LastIndex(s, "checksum ")
	if at < 0 || s[at:] != fmt.Sprintf("checksum %016x\n", xxhash.Sum64String(s[:at])) {
		return nil, fmt.Errorf("%w: does not match its checksum", ErrCorrupt)
	}
	line, rest, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(strings.TrimPrefix(line, "format "), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: has no format", ErrFormat)
	}
	if n != Format {
		return nil, fmt.Errorf("%w: format %d, this program knows %d", ErrFormat, n, Format)
	}
	id := &identity{Format: Format}
	var inc string
	if _, err := fmt.Sscanf(rest, "incarnation %s\nstate %s\nround %d\n", &inc, &id.State, &id.Round); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	b, err := hex.DecodeString(inc)
	if err != nil || len(b) != len(id.Incarnation) {
		return nil, fmt.Errorf("%w: has no incarnation", ErrCorrupt)
	}
	copy(id.Incarnation[:], b)
	if id.text() != s || id.State != stateNew && id.State != stateOpen && id.State != stateClosed {
		return nil, fmt.Errorf("%w: is not as it is written", ErrCorrupt)
	}
	return id, nil
}

// maxIdentity bounds what is read of a file that may be anything.
const maxIdentity = 4096

// readIdentity returns nil if there is no such file.
func readIdentity(fsys vfs.FS, dir string) (*identity, error) {
	name := fsys.PathJoin(dir, identityName)
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentity))
	if err != nil {
		return nil, err
	}
	id, err := parseIdentity(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return id, nil
}

// write replaces the file: there is the old one or the new one, never neither.
func (id *identity) write(fsys vfs.FS, dir string) error {
	temp := fsys.PathJoin(dir, identityTemp)
	f, err := fsys.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(id.text()))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, fsys.PathJoin(dir, identityName)); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
