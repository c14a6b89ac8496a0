package rabbitmq

import (
	"os"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

// clusterEnv makes TestCluster start three brokers, which takes longer than all
// other tests of the package together:
//
//	LOCKKEEPER_RABBITMQ_CLUSTER=1 go test -run TestCluster -timeout 20m -v ./drivers/rabbitmq
const clusterEnv = "LOCKKEEPER_RABBITMQ_CLUSTER"

// TestCluster runs the suite on three brokers.
func TestCluster(t *testing.T) {
	if os.Getenv(clusterEnv) == "" {
		t.Logf("one broker is tested; %s=1 tests three", clusterEnv)
		return
	}
	c := realserver.StartRabbitMQCluster(t)
	url := "amqp://" + strings.Join(c.Addrs(), ",") + fast
	queuetest.Run(t, queuetest.Harness{
		Open: func(t *testing.T) driver.Conn {
			t.Helper()
			return openURL(t, url)
		},
		Lease: suiteLease,
	})
}
