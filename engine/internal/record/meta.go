package record

// AppendMeta appends the encoding of m.
func AppendMeta(b []byte, m *Meta) []byte {
	b = append(b, version)
	b = appendUint(b, uint64(m.Format))
	b = append(b, m.Incarnation[:]...)
	b = appendUint(b, m.TokenReserve)
	return appendUint(b, uint64(m.NextQueueID))
}

// DecodeMeta is the inverse of AppendMeta.
func DecodeMeta(b []byte) (*Meta, error) {
	d := decode("meta", b)
	m := &Meta{Format: d.uint32("format")}
	copy(m.Incarnation[:], d.take("incarnation", len(m.Incarnation)))
	m.TokenReserve = d.uint("token_reserve")
	m.NextQueueID = d.uint32("next_queue_id")
	if err := d.done(); err != nil {
		return nil, err
	}
	return m, nil
}

// AppendNumber appends a record that is a single number.
func AppendNumber(b []byte, n uint64) []byte { return appendUint(append(b, version), n) }

// DecodeNumber is the inverse of AppendNumber.
func DecodeNumber(b []byte) (uint64, error) {
	d := decode("number", b)
	n := d.uint("value")
	return n, d.done()
}
