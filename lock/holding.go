package lock

import (
	"context"
	"slices"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// holding is a lease, or a set of them, as the contexts that come from it know
// it: whoever acquires with such a context waits while holding it. It is the
// parent of the lease's context, so that it costs nothing until that is made.
type holding struct {
	context.Context // given to the acquire
	holder          string
	outer           *holding // the one around it
}

type holdingKey struct{}

// Value implements context.Context.
func (h *holding) Value(key any) any {
	if key == (holdingKey{}) {
		return h
	}
	return h.Context.Value(key)
}

// holdingOf returns the innermost lease that ctx comes from, nil if none.
func holdingOf(ctx context.Context) *holding {
	h, _ := ctx.Value(holdingKey{}).(*holding)
	return h
}

// within returns the holders that are named, and those of h and around it, as
// many as a request may have.
func (h *holding) within(named []string) []string {
	if h == nil && len(named) == 0 {
		return nil
	}
	holders := slices.Clone(named)
	for ; h != nil && len(holders) < driver.MaxWithin; h = h.outer {
		if !slices.Contains(holders, h.holder) {
			holders = append(holders, h.holder)
		}
	}
	return holders
}
