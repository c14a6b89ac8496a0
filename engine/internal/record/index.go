package record

import (
	"encoding/binary"
	"math"
)

// AppendIndexBlock appends the encoding of x.
func AppendIndexBlock(b []byte, x *IndexBlock) []byte {
	v := byte(version)
	for i := range x.Entries {
		if x.Entries[i].Expires != 0 {
			v = version2
			break
		}
	}
	b = append(b, v)
	b = appendUint(b, x.FirstSeq)
	b = appendInt(b, x.Published)
	b = appendUint(b, uint64(x.Bytes))
	keyed := false
	for i := range x.Entries {
		keyed = keyed || x.Entries[i].KeyHash != 0
	}
	b = appendBool(b, keyed)
	b = appendUint(b, uint64(len(x.Entries)))
	for i := range x.Entries {
		b = appendUint(b, uint64(x.Entries[i].Size))
		if keyed {
			b = binary.LittleEndian.AppendUint64(b, x.Entries[i].KeyHash)
		}
		if v == version2 {
			b = appendUint(b, lifetime(x, i))
		}
	}
	return b
}

// lifetime is what version 2 has of each entry: 0 if it does not expire.
func lifetime(x *IndexBlock, i int) uint64 {
	if x.Entries[i].Expires == 0 {
		return 0
	}
	return uint64(x.Entries[i].Expires - x.Published)
}

// DecodeIndexBlock is the inverse of AppendIndexBlock.
func DecodeIndexBlock(b []byte) (*IndexBlock, error) {
	d, v := decodeUpTo(version2, "index", b)
	x := &IndexBlock{FirstSeq: d.uint("first_seq"), Published: d.int("published"), Bytes: d.uint32("bytes")}
	keyed := d.bool("keyed")
	n := d.count("entries", 1)
	if d.err == nil && (n < 1 || n > SegmentSize) {
		d.failf("entries", "must be 1 to %d, are %d", SegmentSize, n)
	}
	if d.err == nil {
		x.Entries = make([]Index, n)
	}
	some, mortal := false, false
	for i := range x.Entries {
		x.Entries[i].Size = d.uint32("entries.size")
		if keyed {
			x.Entries[i].KeyHash = d.fixed64("entries.key_hash")
			some = some || x.Entries[i].KeyHash != 0
		}
		if v == version2 {
			mortal = d.lifetime(x, i) || mortal
		}
	}
	if mortal != (v == version2) {
		d.failf("version", "does not match the entries")
	}
	if keyed != some {
		d.failf("keyed", "does not match the entries")
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return x, nil
}

// lifetime reads when an entry expires and reports whether it does.
func (d *decoder) lifetime(x *IndexBlock, i int) bool {
	n := d.uint("entries.lifetime")
	if n == 0 {
		return false
	}
	x.Entries[i].Expires = x.Published + int64(n)
	if n > math.MaxInt64 || x.Entries[i].Expires <= x.Published || x.Entries[i].Expires == 0 {
		d.failf("entries.lifetime", "is out of range")
	}
	return true
}
