package record

import "github.com/cespare/xxhash/v2"

// NewBlock is one block to be stored: its messages, and their index.
type NewBlock struct {
	Messages []Message
	Index    IndexBlock
}

// KeyHash is the hash of an order key in an Index: 0 for "", never 0 for
// another.
func KeyHash(orderKey string) uint64 {
	if orderKey == "" {
		return 0
	}
	return max(xxhash.Sum64String(orderKey), 1)
}

// SplitBlocks splits messages that get the sequence numbers first, first+1, ...
// into blocks of at most MaxBlockBytes encoded bytes (a longer message has a
// block of its own), none across a border of segments. The blocks share the
// memory of msgs. now is the wall clock of the round in Unix nanoseconds.
func SplitBlocks(first uint64, now int64, msgs []Message) []NewBlock {
	var blocks []NewBlock
	for len(msgs) > 0 {
		size, n := blockHeaderSize, 0
		room := int(SegmentSize - first%SegmentSize)
		for n < len(msgs) && n < room {
			more := blockEntrySize + messageSize(&msgs[n])
			if n > 0 && size+more > MaxBlockBytes {
				break
			}
			size += more
			n++
		}
		entries := make([]Index, n)
		for i := range entries {
			entries[i] = Index{KeyHash: KeyHash(msgs[i].OrderKey), Size: uint32(len(msgs[i].Body))}
		}
		blocks = append(blocks, NewBlock{
			Messages: msgs[:n:n],
			Index:    IndexBlock{FirstSeq: first, Published: now, Bytes: uint32(size), Entries: entries},
		})
		msgs = msgs[n:]
		first += uint64(n)
	}
	return blocks
}
