package rabbitmq

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLedger: whatever the order in which deliveries are decided, each that is to
// be acked is acked once, none that is not decided ever is, and what has none
// before it that is not is acked together.
func TestLedger(t *testing.T) {
	t.Parallel()
	const n = 1000
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, seed))
		order := make([]uint64, n)
		for i := range order {
			order[i] = uint64(i + 1)
		}
		for i := range order { // more and more out of order
			j := i + r.IntN(min(int(seed)*4+1, n-i))
			order[i], order[j] = order[j], order[i]
		}
		var l ledger
		decided, wanted, told := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
		look := func(all bool) {
			upTo, multiple, single := l.take(func(uint64) bool { return all })
			if upTo > 0 && !wanted[upTo] {
				t.Fatalf("an ack of %d, which is not to be acked", upTo)
			}
			for tag := upTo; tag > 0 && (multiple || tag == upTo); tag-- {
				if !decided[tag] {
					t.Fatalf("an ack up to %d is one of %d too", upTo, tag)
				}
				if wanted[tag] {
					told[tag] = true
				}
			}
			for _, tag := range single {
				if told[tag] || !wanted[tag] {
					t.Fatalf("%d is acked again, or is not to be acked", tag)
				}
				told[tag] = true
			}
		}
		for _, tag := range order {
			decided[tag] = true
			if r.IntN(10) == 0 {
				l.decide(tag)
			} else {
				wanted[tag] = true
				l.ack(tag)
			}
			if r.IntN(20) == 0 {
				look(r.IntN(4) == 0)
			}
		}
		look(false)
		if len(told) != len(wanted) || len(l.acks) != 0 {
			t.Fatalf("%d of %d were acked, %d wait", len(told), len(wanted), len(l.acks))
		}
		if l.mark() != n || len(l.past) > 1 {
			t.Fatalf("at the end the mark is %d, and %d words are kept", l.mark(), len(l.past))
		}
	}
}

// TestLedgerStalled: behind a delivery that is not decided others are acked one
// by one, and a bit is kept for each.
func TestLedgerStalled(t *testing.T) {
	t.Parallel()
	var l ledger
	for tag := uint64(2); tag <= 1_000_000; tag++ {
		l.ack(tag)
		if upTo, _, single := l.take(always); upTo != 0 || !slices.Equal(single, []uint64{tag}) {
			t.Fatalf("ack of %d: up to %d, and %v", tag, upTo, single)
		}
	}
	if len(l.past) > 1_000_000/wordBits+1 {
		t.Errorf("%d words are kept", len(l.past))
	}
	l.ack(1)
	if upTo, multiple, single := l.take(always); upTo != 1 || multiple || single != nil || l.mark() != 1_000_000 || len(l.past) > 1 {
		t.Errorf("the first at last: up to %d, %v, %v, mark %d", upTo, multiple, single, l.mark())
	}
}

// TestLedgerTwice: a delivery that is decided again, as when an ack of it failed
// and it is handed back, is none the more decided, also if all around it are.
func TestLedgerTwice(t *testing.T) {
	t.Parallel()
	var l ledger
	for tag := uint64(1); tag <= 2*wordBits; tag++ {
		l.decide(tag)
		l.decide(tag)
	}
	l.decide(1)
	if l.mark() != 2*wordBits || len(l.past) > 0 {
		t.Errorf("mark %d, %d words are kept", l.mark(), len(l.past))
	}
}
