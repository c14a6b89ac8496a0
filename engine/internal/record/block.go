package record

import (
	"encoding/binary"
	"hash/crc32"
)

// A block is
//
//	version u8, count u16,
//	checksum u64 (xxHash64) of the key and of everything here but itself,
//	for each message: end u32 of its encoding behind the table, CRC-32C of it,
//	the messages' encodings.
//
// Numbers are little-endian. So one message can be read and checked without
// touching the others.
const (
	blockVersion    = 1
	blockHeaderSize = 1 + 2 + 8
	blockEntrySize  = 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBlock appends the encoding of 1 to SegmentSize messages as a block
// that lies under key.
func AppendBlock(b, key []byte, msgs []Message) []byte {
	if len(msgs) < 1 || len(msgs) > SegmentSize {
		panic("record: a block has 1 to SegmentSize messages")
	}
	start := len(b)
	b = append(b, blockVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(msgs)))
	b = binary.LittleEndian.AppendUint64(b, 0)
	table := len(b)
	b = append(b, make([]byte, blockEntrySize*len(msgs))...)
	data := len(b)
	for i := range msgs {
		from := len(b)
		b = AppendMessage(b, &msgs[i])
		entry := b[table+i*blockEntrySize:]
		binary.LittleEndian.PutUint32(entry, uint32(len(b)-data))
		binary.LittleEndian.PutUint32(entry[4:], crc32.Checksum(b[from:], castagnoli))
	}
	binary.LittleEndian.PutUint64(b[start+3:], blockSum(key, b[start:data]))
	return b
}

// BlockSize is the number of bytes that AppendBlock appends.
func BlockSize(msgs []Message) int {
	n := blockHeaderSize + blockEntrySize*len(msgs)
	for i := range msgs {
		n += messageSize(&msgs[i])
	}
	return n
}

// blockSum is over the header, without the place of the sum, and the table.
func blockSum(key, b []byte) uint64 {
	head := make([]byte, 0, 64)
	head = append(append(head, key...), b[:3]...)
	return sum(head, b[blockHeaderSize:])
}

// Block is an encoded block whose header has been checked. Its messages are
// decoded, and checked, one at a time.
type Block struct{ table, data []byte }

// OpenBlock checks the header of the block that lies under key. The Block is
// a part of b.
func OpenBlock(key, b []byte) (Block, error) {
	d := &decoder{record: "block", b: b}
	if v := d.byte("version"); d.err == nil && v != blockVersion {
		d.failf("version", "%d is not known to this program", v)
	}
	var count int
	if n := d.take("count", 2); n != nil {
		count = int(binary.LittleEndian.Uint16(n))
	}
	want := d.fixed64("checksum")
	table := d.take("table", count*blockEntrySize)
	if d.err == nil && want != blockSum(key, b[:len(b)-len(d.b)]) {
		d.failf("", "header does not match its checksum")
	}
	if d.err == nil && (count < 1 || count > SegmentSize) {
		d.failf("count", "must be 1 to %d, is %d", SegmentSize, count)
	}
	if d.err != nil {
		return Block{}, d.err
	}
	blk := Block{table: table, data: d.b}
	if _, end := blk.bounds(count - 1); end != uint32(len(blk.data)) {
		d.failf("", "has %d bytes of messages, the table says %d", len(blk.data), end)
	}
	return blk, d.err
}

// Len is the number of messages.
func (b Block) Len() int { return len(b.table) / blockEntrySize }

func (b Block) bounds(i int) (from, end uint32) {
	if i > 0 {
		from = binary.LittleEndian.Uint32(b.table[(i-1)*blockEntrySize:])
	}
	return from, binary.LittleEndian.Uint32(b.table[i*blockEntrySize:])
}

// Encoded returns the encoding of message i, 0 <= i < Len, once its checksum
// has been checked.
func (b Block) Encoded(i int) ([]byte, error) {
	from, end := b.bounds(i)
	if from > end || uint64(end) > uint64(len(b.data)) {
		return nil, &Error{Record: "block", Field: "table", Reason: "is not in order"}
	}
	enc := b.data[from:end:end]
	if crc32.Checksum(enc, castagnoli) != binary.LittleEndian.Uint32(b.table[i*blockEntrySize+4:]) {
		return nil, &Error{Record: "message", Reason: "does not match its checksum"}
	}
	return enc, nil
}

// Message decodes message i, see DecodeMessage.
func (b Block) Message(i int) (*Message, error) {
	enc, err := b.Encoded(i)
	if err != nil {
		return nil, err
	}
	return DecodeMessage(enc)
}
