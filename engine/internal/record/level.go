package record

import queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"

// AppendLevels appends the encoding of the levels of a queue.
func AppendLevels(b []byte, levels []Level) []byte {
	b = append(b, version)
	b = appendUint(b, uint64(len(levels)))
	for _, l := range levels {
		b = appendUint(b, l.NextSeq)
		b = appendUint(b, l.Head)
	}
	return b
}

// DecodeLevels is the inverse of AppendLevels.
func DecodeLevels(b []byte) ([]Level, error) {
	d := decode("levels", b)
	levels := make([]Level, d.uintTo("levels", queuedriver.MaxPriority))
	for i := range levels {
		levels[i] = Level{NextSeq: d.uint("next_seq"), Head: d.uint("head")}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return levels, nil
}
