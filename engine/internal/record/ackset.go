package record

import "encoding/binary"

// Forms of an AckSet on disk. The encoder takes the shorter one, runs if equal.
const (
	ackRuns   = 1
	ackBitmap = 2

	ackBitmapSize = 1 + SegmentSize/8
)

// AppendAckSet appends the encoding of a.
func AppendAckSet(b []byte, a *AckSet) []byte {
	start := len(b)
	n := 0
	for range a.Runs() {
		n++
	}
	// A run takes at least two bytes; do not build what cannot be shorter.
	if n < SegmentSize/8/2 {
		b = appendUint(append(b, ackRuns), uint64(n))
		end := 0
		for offset, length := range a.Runs() {
			b = appendUint(b, uint64(offset-end))
			b = appendUint(b, uint64(length))
			end = offset + length
		}
		if len(b)-start <= ackBitmapSize {
			return b
		}
	}
	b = append(b[:start], ackBitmap)
	for _, w := range &a.bits {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// DecodeAckSet is the inverse of AppendAckSet.
func DecodeAckSet(b []byte) (*AckSet, error) {
	d := &decoder{record: "acks", b: b}
	a := new(AckSet)
	switch form := d.byte("form"); {
	case d.err != nil:
	case form == ackRuns:
		d.ackRuns(a)
	case form == ackBitmap:
		for i := range &a.bits {
			a.bits[i] = d.fixed64("bitmap")
		}
	default:
		d.failf("form", "%d is not known to this program", form)
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return a, nil
}

func (d *decoder) ackRuns(a *AckSet) {
	end := 0
	for i := range d.count("runs", 2) {
		gap := int(d.uintTo("runs.gap", SegmentSize))
		n := int(d.uintTo("runs.length", SegmentSize))
		if d.err == nil && (n == 0 || gap == 0 && i > 0 || end+gap+n > SegmentSize) {
			d.failf("runs", "are not in order")
		}
		if d.err != nil {
			return
		}
		a.Add(uint64(end+gap), n)
		end += gap + n
	}
}
