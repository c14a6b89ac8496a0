package record

import "math"

// AppendResult appends the encoding of r.
func AppendResult(b []byte, r *Result) []byte {
	b = append(b, version)
	b = append(b, r.Digest[:]...)
	b = appendInt(b, r.Until)
	b = appendUint(b, uint64(len(r.Settled)))
	for _, dead := range r.Settled {
		b = appendBool(b, dead)
	}
	b = appendUint(b, uint64(len(r.Receipts)))
	for _, p := range r.Receipts {
		b = appendUint(b, uint64(p.Queues))
		b = appendBool(b, p.Duplicate)
	}
	return appendString(b, string(r.Result))
}

// DecodeResult is the inverse of AppendResult. Its Result is a part of b.
func DecodeResult(b []byte) (*Result, error) {
	d := decode("result", b)
	r := &Result{}
	copy(r.Digest[:], d.take("digest", len(r.Digest)))
	r.Until = d.int("until")
	if n := d.count("settled", 1); n > 0 {
		r.Settled = make([]bool, n)
		for i := range r.Settled {
			r.Settled[i] = d.bool("settled")
		}
	}
	if n := d.count("receipts", 2); n > 0 {
		r.Receipts = make([]Receipt, n)
		for i := range r.Receipts {
			r.Receipts[i] = Receipt{Queues: int(d.uintTo("receipts.queues", math.MaxInt32)), Duplicate: d.bool("receipts.duplicate")}
		}
	}
	if v := d.bytes("result"); len(v) > 0 {
		r.Result = v
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return r, nil
}
