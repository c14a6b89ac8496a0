package record

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// SealSize is how many bytes Seal adds.
const SealSize = 8

// Seal appends to value, which lies under key, the checksum (xxHash64) of both.
func Seal(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint64(value, sum(key, value))
}

// Unseal checks what Seal made and returns the value, a part of sealed.
func Unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - SealSize
	if n < 0 {
		return nil, &Error{Record: "value", Reason: "is shorter than its checksum"}
	}
	if sum(key, sealed[:n]) != binary.LittleEndian.Uint64(sealed[n:]) {
		return nil, &Error{Record: "value", Reason: "does not match its checksum"}
	}
	return sealed[:n:n], nil
}

// sum is over the key's length too, so that no byte can move between the two.
func sum(key, value []byte) uint64 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(key)))
	var h xxhash.Digest
	h.Reset()
	h.Write(n[:])
	h.Write(key)
	h.Write(value)
	return h.Sum64()
}
