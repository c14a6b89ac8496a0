package machine

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// What times out, or is dropped by a full queue, becomes a dead letter though
// nobody does anything with it. Where dead letters lead back to a queue that
// they came from, through an exchange that leads to others too, each round
// would make more of them, and nobody slows it. So such a letter notes where
// it and its copies have been, and of several queues goes only to those that
// are new to it: a circle turns, but what is in it does not become more.
// Somebody who rejects a message, or fails at it too often, begins its trail
// anew: it may take the same way again and again, as one that is retried does.

// trail is a set of ids of queues: four bytes each, in their order.
type trail string

const (
	idBytes = 4
	// maxTrail is how many queues a trail names. A longer one stands for
	// everywhere.
	maxTrail   = 100
	everywhere = trail("\xff\xff\xff\xff") // no queue has this id
)

func (t trail) id(i int) uint32 {
	return binary.BigEndian.Uint32([]byte(t[i*idBytes : (i+1)*idBytes]))
}

func (t trail) has(id uint32) bool {
	if t == everywhere {
		return true
	}
	_, found := t.find(id)
	return found
}

func (t trail) find(id uint32) (int, bool) {
	lo, hi := 0, len(t)/idBytes
	for lo < hi {
		mid := (lo + hi) / 2
		if t.id(mid) < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(t)/idBytes && t.id(lo) == id
}

// with returns the trail with one more queue.
func (t trail) with(id uint32) trail {
	if t == everywhere {
		return t
	}
	i, found := t.find(id)
	switch {
	case found:
		return t
	case len(t) == maxTrail*idBytes:
		return everywhere
	}
	one := binary.BigEndian.AppendUint32(nil, id)
	return t[:i*idBytes] + trail(one) + t[i*idBytes:]
}

// onward returns to which of the queues that a dead letter of q was routed to
// it goes, and puts them on its trail. to is not empty.
func (q *queue) onward(dead *record.Message, to []*queue, by entrance) []*queue {
	been := trail(dead.Trail).with(q.id)
	if len(to) > 1 {
		onward := make([]*queue, 0, len(to))
		for _, d := range to {
			if !been.has(d.id) {
				onward = append(onward, d)
			}
		}
		if len(onward) == 0 {
			onward = append(onward, q.goesTo(dead, to, by))
		}
		to = onward
	}
	for _, d := range to {
		been = been.with(d.id)
	}
	dead.Trail = string(been)
	return to
}

// goesTo returns the one of several queues to which a letter goes that has been
// in all of them: the first behind q, by name, that takes it, so that it goes
// round.
func (q *queue) goesTo(dead *record.Message, to []*queue, by entrance) *queue {
	slices.SortFunc(to, func(a, b *queue) int {
		return cmp.Or(cmp.Compare(q.turn(a), q.turn(b)), strings.Compare(a.spec.Name, b.spec.Name))
	})
	for _, d := range to {
		if d.admit(dead, by) == nil {
			return d
		}
	}
	return to[0]
}

// turn is 0 for what comes behind q by name, and 1 for the others.
func (q *queue) turn(d *queue) int {
	if d.spec.Name > q.spec.Name {
		return 0
	}
	return 1
}

// byItself reports whether a message dies for such a reason though nobody does
// anything with it.
func byItself(reason string) bool {
	return reason == queuedriver.ReasonExpired || reason == queuedriver.ReasonMaxLength
}
