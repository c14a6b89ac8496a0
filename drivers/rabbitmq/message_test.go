package rabbitmq

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestAttemptsCounted: what the broker had back is an attempt, except of a
// message that waits to be dead-lettered: no consumer had that. A subscription
// that ends while such a message is on its way to it hands it back.
func TestAttemptsCounted(t *testing.T) {
	for _, c := range []struct {
		headers amqp.Table
		want    int
	}{
		{amqp.Table{}, 0},
		{amqp.Table{headerDeliveryCount: int64(3)}, 3},
		{amqp.Table{headerAttempts: int64(2)}, 2},
		{amqp.Table{headerAttempts: int64(2), headerDeliveryCount: int32(1)}, 3},
		{amqp.Table{headerAttempts: int64(-2), headerDeliveryCount: "x"}, 0},
		{amqp.Table{headerAttempts: int64(2), headerDeliveryCount: int64(1), headerBury: driver.ReasonDeliveryLimit}, 2},
	} {
		var in inner
		in.read(c.headers, &driver.Message{})
		if in.attempts != c.want {
			t.Errorf("%v: %d failed attempts, want %d", c.headers, in.attempts, c.want)
		}
	}
}
