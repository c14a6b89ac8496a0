package rabbitmq

import "math/bits"

// ledger is which deliveries of a channel are decided, so that one ack can stand
// for many: RabbitMQ takes an ack of a delivery with all that came before it.
// Their tags count from 1.
type ledger struct {
	low  uint64   // every delivery up to this one is decided
	past []uint64 // a bit for each behind it: it is decided
	acks []uint64 // decided, and the broker is still to be told
	old  uint64   // up to here acks were there at the last look
}

// wordBits is how many deliveries a word of past stands for.
const wordBits = 64

// decide notes that a delivery is decided: nothing will be asked of it any more.
// One that is decided again is handed back after its ack could not be sent.
func (l *ledger) decide(tag uint64) {
	if tag <= l.low {
		return
	}
	i := tag - 1 - l.low
	for uint64(len(l.past)) <= i/wordBits {
		l.past = append(l.past, 0)
	}
	l.past[i/wordBits] |= 1 << (i % wordBits)
	n := 0
	for n < len(l.past) && l.past[n] == ^uint64(0) {
		n++
	}
	if n > 0 {
		l.low += uint64(n) * wordBits
		l.past = l.past[:copy(l.past, l.past[n:])]
	}
}

// ack notes that a delivery is to be acked.
func (l *ledger) ack(tag uint64) {
	l.decide(tag)
	l.acks = append(l.acks, tag)
}

// mark is the last delivery up to which all are decided.
func (l *ledger) mark() uint64 {
	if len(l.past) == 0 {
		return l.low
	}
	return l.low + uint64(bits.TrailingZeros64(^l.past[0]))
}

// take takes acks out: one stands for itself and, with multiple, for all before
// it; single are those behind a delivery that is not decided. Of these it takes
// the ones for which take is true.
func (l *ledger) take(take func(tag uint64) bool) (upTo uint64, multiple bool, single []uint64) {
	mark, n := l.mark(), 0
	kept := l.acks[:0]
	for _, tag := range l.acks {
		switch {
		case tag <= mark:
			upTo = max(upTo, tag)
			n++
		case take(tag):
			single = append(single, tag)
		default:
			kept = append(kept, tag)
		}
	}
	l.acks = kept
	return upTo, n > 1, single
}
