package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// First bytes of the keys, see the package comment.
const (
	keyMeta     = 'm'
	keyLock     = 'l'
	keyTopology = 't'
	keyBlock    = 'b'
	keyIndex    = 'i'
	keyAcks     = 'a'
	keyAttempt  = 'r'
	keyFetch    = 'f'
	keyDelayed  = 'd'
	keySeen     = 'u'
	keyCounters = 'c'
	keyCancel   = 'x'
	keyResult   = 'y'
	keyLevels   = 'p'
	keyOffset   = 'o'
	keySchedule = 's'
	keyWaiting  = 'w'
)

// keysOfQueue are those followed by the number of a queue.
var keysOfQueue = [...]byte{keyBlock, keyIndex, keyAcks, keyAttempt, keyFetch, keyDelayed, keySeen, keyCounters, keyLevels, keyCancel, keyOffset, keyWaiting}

var (
	metaKey  = []byte{keyMeta, 0}
	roundKey = []byte{keyMeta, 1}
	indexKey = []byte{keyMeta, 2}
	waitsKey = []byte{keyMeta, 3}
)

const (
	topologyExchange = 'e'
	topologyQueue    = 'q'
	topologyBinding  = 'b'
)

// noPriority is the priority byte of queues without priorities.
const noPriority = 0

func appendNameKey(b []byte, kind byte, name string) []byte { return append(append(b, kind), name...) }

func appendTopologyKey(b []byte, part byte, name string) []byte {
	return append(append(b, keyTopology, part), name...)
}

func appendQueueKey(b []byte, kind byte, q uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), q)
}

// appendSeqKey is for everything that lies in a queue's sequence by priority.
func appendSeqKey(b []byte, kind byte, q uint32, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(appendQueueKey(b, kind, q), noPriority), n)
}

// appendSeqEnd is behind the last sequence key of the queue's priority.
func appendSeqEnd(b []byte, kind byte, q uint32) []byte {
	return append(appendQueueKey(b, kind, q), noPriority+1)
}

func appendFetchKey(b []byte, q uint32, fetch uint64) []byte {
	return binary.BigEndian.AppendUint64(appendQueueKey(b, keyFetch, q), fetch)
}

func appendDelayedKey(b []byte, q uint32, due int64, seq uint64) []byte {
	b = binary.BigEndian.AppendUint64(appendQueueKey(b, keyDelayed, q), ordered(due))
	return binary.BigEndian.AppendUint64(b, seq)
}

func appendCancelPrefix(b []byte, q uint32, hash [16]byte) []byte {
	return append(appendQueueKey(b, keyCancel, q), hash[:]...)
}

func appendCancelKey(b []byte, q uint32, hash [16]byte, at record.DelayedAt) []byte {
	b = binary.BigEndian.AppendUint64(appendCancelPrefix(b, q, hash), ordered(at.Due))
	return binary.BigEndian.AppendUint64(b, at.Seq)
}

func appendSeenBucket(b []byte, q uint32, bucket int64) []byte {
	return binary.BigEndian.AppendUint64(appendQueueKey(b, keySeen, q), ordered(bucket))
}

func appendSeenKey(b []byte, q uint32, bucket int64, hash [16]byte) []byte {
	return append(appendSeenBucket(b, q, bucket), hash[:]...)
}

func appendOffsetKey(b []byte, q uint32, consumer string) []byte {
	return append(appendQueueKey(b, keyOffset, q), consumer...)
}

// ordered maps signed numbers to unsigned ones in the same order.
func ordered(n int64) uint64   { return uint64(n) ^ 1<<63 }
func unordered(n uint64) int64 { return int64(n ^ 1<<63) }

// hash128 names things of any length. 128 bits of SHA-256 do not collide by
// accident, nor can a client make them.
func hash128(b []byte) [16]byte {
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// tail reads the last 8 bytes of a key.
func tail(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// keyLengths of the kinds whose keys have one.
var keyLengths = map[byte]int{keyBlock: 14, keyIndex: 14, keyAcks: 14, keyAttempt: 14, keyFetch: 13, keyDelayed: 21, keySeen: 29, keyCounters: 5, keyCancel: 37, keyLevels: 5, keyResult: 26, keyWaiting: 22}

// keyName is how messages name a key: its kind and the rest.
func keyName(key []byte) string {
	if len(key) == 0 {
		return "(empty key)"
	}
	switch kind := key[0]; {
	case kind == keyLock:
		return fmt.Sprintf("lock %q", key[1:])
	case kind == keyResult && len(key) == keyLengths[kind]:
		return fmt.Sprintf("result of a commit, %x", key[1:])
	case kind == keyTopology && len(key) > 2 && key[1] != topologyBinding:
		return fmt.Sprintf("topology %c %q", key[1], key[2:])
	case keyLengths[kind] == len(key):
		q := binary.BigEndian.Uint32(key[1:])
		if len(key) == 14 {
			return fmt.Sprintf("%c of queue %d at %d", kind, q, tail(key))
		}
		return fmt.Sprintf("%c of queue %d, %x", kind, q, key[5:])
	default:
		return fmt.Sprintf("%c %x", kind, key[1:])
	}
}
