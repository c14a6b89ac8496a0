package record

// Waiting says where a delayed message with an id lies.
type Waiting struct {
	ID [16]byte // a hash of it
	DelayedAt
}

// waitingLeast is the least that one takes in an encoding.
const waitingLeast = 18

// AppendWaiting appends the encoding of where some messages lie. It is short
// if they are in the order of their numbers.
func AppendWaiting(b []byte, ws []Waiting) []byte {
	b = append(b, version)
	b = appendUint(b, uint64(len(ws)))
	var last DelayedAt
	for i := range ws {
		w := &ws[i]
		b = append(b, w.ID[:]...)
		b = appendInt(b, w.Due-last.Due)
		b = appendInt(b, int64(w.Seq-last.Seq))
		last = w.DelayedAt
	}
	return b
}

// DecodeWaiting is the inverse of AppendWaiting.
func DecodeWaiting(b []byte) ([]Waiting, error) {
	d := decode("waiting", b)
	ws := make([]Waiting, d.count("waiting", waitingLeast))
	var last DelayedAt
	for i := range ws {
		w := &ws[i]
		copy(w.ID[:], d.take("id", len(w.ID)))
		w.Due = last.Due + d.int("due")
		w.Seq = last.Seq + uint64(d.int("seq"))
		last = w.DelayedAt
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return ws, nil
}
