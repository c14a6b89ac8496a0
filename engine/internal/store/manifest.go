package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	pebblerecord "github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkManifest refuses a manifest that Pebble would silently read as a
// shorter one, and so forget tables. Pebble takes the first record that it
// cannot read for the end: right after a crash, when it is the last one and
// was not written fully; wrong if the store was closed, or if records follow.
func checkManifest(fsys vfs.FS, data string, closed bool) error {
	desc, err := pebble.Peek(data, fsys)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !desc.Exists {
		return fmt.Errorf("%w: there is no manifest", ErrCorrupt)
	}
	f, err := fsys.Open(desc.ManifestFilename)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	end, err := manifestEnd(b)
	if err != nil && (closed || recordsBehind(b, end)) {
		return fmt.Errorf("%w: %s is damaged at byte %d: %w", ErrCorrupt, desc.ManifestFilename, end, err)
	}
	return nil
}

// manifestEnd returns where the first record begins that cannot be read, and
// why, or no error if there is none.
func manifestEnd(b []byte) (int, error) {
	r := pebblerecord.NewReader(&reader{b: b}, 0)
	for {
		at := int(r.Offset())
		rec, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		} else if errors.Is(err, io.EOF) {
			return len(b), nil
		}
		if err != nil {
			return at, err
		}
	}
}

// reader is a bytes.Reader without its other methods: io.Copy takes the plain
// way.
type reader struct{ b []byte }

func (r *reader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// Of Pebble's (LevelDB's) record format: blocks of 32 KiB with chunks in them,
// each a masked CRC-32C, a length and a kind.
const (
	chunkBlock  = 32 << 10
	chunkHeader = 7
	chunkMask   = 0xa282ead8
	maxChunk    = 4 // full, first, middle, last
)

// recordsBehind looks for a valid chunk anywhere behind the one at from.
func recordsBehind(b []byte, from int) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	for at := from + 1; at+chunkHeader <= len(b); at++ {
		length := int(binary.LittleEndian.Uint16(b[at+4:]))
		kind := b[at+6]
		end := at + chunkHeader + length
		if kind < 1 || kind > maxChunk || length == 0 || end > len(b) || end > at-at%chunkBlock+chunkBlock {
			continue
		}
		c := crc32.Checksum(b[at+6:end], table)
		if (c>>15|c<<17)+chunkMask == binary.LittleEndian.Uint32(b[at:]) {
			return true
		}
	}
	return false
}
