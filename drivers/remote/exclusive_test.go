package remote

import (
	"errors"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestExclusiveNeedsSession checks that a queue can belong to a session, and
// that nobody is told so of one without.
func TestExclusiveNeedsSession(t *testing.T) {
	d := startOn(t, "mem://", nil)
	spec := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "mine", Exclusive: true}}}
	for query, want := range map[string]error{"?session=on": nil, "?session=off": lease.ErrUnsupported} {
		c, err := openQueues(t.Context(), d.url()+query)
		if err != nil {
			t.Fatal(err)
		}
		if has := c.Caps().Exclusive; has != (want == nil) {
			t.Errorf("%s: Caps.Exclusive is %v", query, has)
		}
		if _, err := c.Declare(t.Context(), spec, false); !errors.Is(err, want) {
			t.Errorf("%s: Declare: %v, want %v", query, err, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
