package kafka

import (
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

// TestShare: the suite expects what is published first to come first where nobody
// else receives, which one partition gives.
func TestShare(t *testing.T) {
	t.Parallel()
	s := realserver.SharedKafka(t)
	queuetest.Run(t, queuetest.Harness{
		Open: func(t *testing.T) driver.Conn {
			t.Helper()
			return openURL(t, "kafka://"+s.Addr()+"?partitions=1&prefix=share.&queue_type=share")
		},
		Lease: suiteLease,
	})
}
