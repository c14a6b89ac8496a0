package record

import "encoding/binary"

// AppendIndexBlock appends the encoding of x.
func AppendIndexBlock(b []byte, x *IndexBlock) []byte {
	b = append(b, version)
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
	}
	return b
}

// DecodeIndexBlock is the inverse of AppendIndexBlock.
func DecodeIndexBlock(b []byte) (*IndexBlock, error) {
	d := decode("index", b)
	x := &IndexBlock{FirstSeq: d.uint("first_seq"), Published: d.int("published"), Bytes: d.uint32("bytes")}
	keyed := d.bool("keyed")
	n := d.count("entries", 1)
	if d.err == nil && (n < 1 || n > SegmentSize) {
		d.failf("entries", "must be 1 to %d, are %d", SegmentSize, n)
	}
	if d.err == nil {
		x.Entries = make([]Index, n)
	}
	some := false
	for i := range x.Entries {
		x.Entries[i].Size = d.uint32("entries.size")
		if keyed {
			x.Entries[i].KeyHash = d.fixed64("entries.key_hash")
			some = some || x.Entries[i].KeyHash != 0
		}
	}
	if keyed != some {
		d.failf("keyed", "does not match the entries")
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return x, nil
}
