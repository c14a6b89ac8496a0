package store

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// ackMerger unites sets of acks: associative and commutative, and repeats do
// no harm. Its name is in every table on disk.
var ackMerger = &pebble.Merger{
	Name: "lockkeeper.acks.1",
	Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		m := &ackUnion{key: append([]byte(nil), key...)}
		return m, m.add(value)
	},
}

type ackUnion struct {
	key []byte
	set record.AckSet
}

func (m *ackUnion) add(sealed []byte) error {
	if len(m.key) == 0 || m.key[0] != keyAcks {
		return fmt.Errorf("%w: %s is not mergeable", ErrCorrupt, keyName(m.key))
	}
	value, err := record.Unseal(m.key, sealed)
	if err != nil {
		return corrupt(m.key, err)
	}
	set, err := record.DecodeAckSet(value)
	if err != nil {
		return corrupt(m.key, err)
	}
	m.set.Union(set)
	return nil
}

func (m *ackUnion) MergeNewer(value []byte) error { return m.add(value) }
func (m *ackUnion) MergeOlder(value []byte) error { return m.add(value) }

func (m *ackUnion) Finish(bool) ([]byte, io.Closer, error) {
	return record.Seal(m.key, record.AppendAckSet(nil, &m.set)), nil, nil
}
