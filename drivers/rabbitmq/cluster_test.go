package rabbitmq

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
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

// TestClusterKilled kills one of three brokers after the other while messages are
// published and handled, and starts it again. The others go on meanwhile.
func TestClusterKilled(t *testing.T) {
	if os.Getenv(clusterEnv) == "" {
		t.Logf("%s=1 kills one of three brokers", clusterEnv)
		return
	}
	c := realserver.StartRabbitMQCluster(t)
	url := "amqp://" + strings.Join(c.Addrs(), ",") + fast
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "cluster killed")
	tr.run(pub, sub, func() {
		drivertest.Pause(queueAge)
		for i := range times(t) {
			n := c.Nodes[i%len(c.Nodes)]
			tr.progress(200)
			n.Kill(t)
			began := time.Now()
			tr.progress(200)
			t.Logf("without broker %d it went on after %v", i%len(c.Nodes)+1, time.Since(began).Round(time.Millisecond))
			n.Start(t)
		}
		tr.progress(50)
	})
}
