package record

import "github.com/lockkeeper/lockkeeper/lease"

// AppendAttempt appends the encoding of a.
func AppendAttempt(b []byte, a *Attempt) []byte {
	b = append(b, version)
	b = appendUint(b, uint64(a.Count))
	b = appendUint(b, uint64(a.LastToken))
	return appendInt(b, a.NotBefore)
}

// DecodeAttempt is the inverse of AppendAttempt.
func DecodeAttempt(b []byte) (*Attempt, error) {
	d := decode("attempt", b)
	a := &Attempt{Count: d.uint32("count"), LastToken: lease.Token(d.uint("last_token")), NotBefore: d.int("not_before")}
	if err := d.done(); err != nil {
		return nil, err
	}
	return a, nil
}

// AppendFetch appends the encoding of f.
func AppendFetch(b []byte, f *Fetch) []byte {
	b = append(b, version)
	b = appendString(b, f.Consumer)
	b = appendInt(b, int64(f.TTL))
	b = appendUint(b, uint64(f.FirstToken))
	b = appendUint(b, uint64(len(f.Seqs)))
	last := uint64(0)
	for _, s := range f.Seqs {
		// Neighbours are near each other, in either direction.
		b = appendInt(b, int64(s-last))
		last = s
	}
	return b
}

// DecodeFetch is the inverse of AppendFetch.
func DecodeFetch(b []byte) (*Fetch, error) {
	d := decode("fetch", b)
	f := &Fetch{Consumer: d.string("consumer"), TTL: d.duration("ttl"), FirstToken: lease.Token(d.uint("first_token"))}
	if n := d.count("seqs", 1); n > 0 {
		f.Seqs = make([]uint64, n)
		last := uint64(0)
		for i := range f.Seqs {
			last += uint64(d.int("seqs"))
			f.Seqs[i] = last
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return f, nil
}

// AppendDelayed appends the encoding of x.
func AppendDelayed(b []byte, x *Delayed) []byte {
	b = append(b, version)
	b = appendInt(b, x.Due)
	b = appendUint(b, x.Seq)
	return AppendMessage(b, &x.Message)
}

// DecodeDelayed is the inverse of AppendDelayed. See DecodeMessage for what is
// a part of b.
func DecodeDelayed(b []byte) (*Delayed, error) {
	d := decode("delayed", b)
	x := &Delayed{Due: d.int("due"), Seq: d.uint("seq")}
	x.Message = *d.message()
	if err := d.done(); err != nil {
		return nil, err
	}
	return x, nil
}

// AppendCounters appends the encoding of c.
func AppendCounters(b []byte, c *Counters) []byte {
	v := byte(version)
	for _, f := range c.later() {
		if *f.at != 0 {
			v = version2
		}
	}
	b = append(b, v)
	b = appendUint(b, c.NextSeq)
	b = appendUint(b, c.NextDelayed)
	b = appendUint(b, c.NextFetch)
	b = appendUint(b, c.Head)
	for _, f := range c.signed() {
		b = appendInt(b, *f.at)
	}
	if v == version2 {
		for _, f := range c.later() {
			b = appendInt(b, *f.at)
		}
	}
	return b
}

// DecodeCounters is the inverse of AppendCounters.
func DecodeCounters(b []byte) (*Counters, error) {
	d, v := decodeUpTo(version2, "counters", b)
	c := &Counters{
		NextSeq:     d.uint("next_seq"),
		NextDelayed: d.uint("next_delayed"),
		NextFetch:   d.uint("next_fetch"),
		Head:        d.uint("head"),
	}
	for _, f := range c.signed() {
		*f.at = d.int(f.name)
	}
	if v == version2 {
		some := int64(0)
		for _, f := range c.later() {
			*f.at = d.int(f.name)
			some |= *f.at
		}
		if some == 0 {
			d.failf("version", "is 2 without need")
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return c, nil
}

type counter struct {
	name string
	at   *int64
}

// later lists the fields of version 2.
func (c *Counters) later() [4]counter {
	return [...]counter{
		{"timed_out", &c.TimedOut},
		{"overflowed", &c.Overflowed},
		{"refused", &c.Refused},
		{"mortal", &c.Mortal},
	}
}

// signed lists the fields behind the first four in the order on disk.
func (c *Counters) signed() [12]counter {
	return [...]counter{
		{"seen_bucket", &c.SeenBucket},
		{"live", &c.Live},
		{"bytes", &c.Bytes},
		{"delayed", &c.Delayed},
		{"published", &c.Published},
		{"duplicates", &c.Duplicates},
		{"delivered", &c.Delivered},
		{"acked", &c.Acked},
		{"nacked", &c.Nacked},
		{"expired", &c.Expired},
		{"dead_lettered", &c.DeadLettered},
		{"dropped", &c.Dropped},
	}
}
