package kafka

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

// clusterEnv makes TestCluster start three brokers:
//
//	LOCKKEEPER_KAFKA_CLUSTER=1 go test -run TestCluster -timeout 20m -v ./drivers/kafka
const clusterEnv = "LOCKKEEPER_KAFKA_CLUSTER"

func startCluster(t *testing.T) *realserver.KafkaCluster {
	t.Helper()
	if os.Getenv(clusterEnv) == "" {
		t.Logf("one broker is tested; %s=1 tests three", clusterEnv)
		return nil
	}
	return realserver.StartKafkaCluster(t)
}

// TestCluster runs the suite on three brokers.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	if c == nil {
		return
	}
	queuetest.Run(t, queuetest.Harness{
		Open: func(t *testing.T) driver.Conn {
			t.Helper()
			return openURL(t, "kafka://"+strings.Join(c.Addrs(), ",")+"?partitions=1&prefix=suite.")
		},
		Lease: suiteLease,
	})
}

// TestClusterKilled kills the leader of one partition after the other while
// messages are published and handled, and starts it again. The other two go on
// meanwhile.
func TestClusterKilled(t *testing.T) {
	c := startCluster(t)
	if c == nil {
		return
	}
	url := "kafka://" + strings.Join(c.Addrs(), ",")
	own, ok := openURL(t, url).(*conn)
	defer own.Close()
	if !ok || own.Caps().Durability != driver.Replicated {
		t.Fatalf("a confirm of three brokers is %v", own.Caps().Durability)
	}
	pub, sub := openBroker(t, url), openBroker(t, url)
	tr := newTraffic(t, pub, "cluster killed")
	tr.run(pub, func(ctx context.Context) {
		for i := range times(t) {
			tr.progressOfAll()
			leader := awaitWhole(ctx, t, own.adm, queueTopic(tr.name), int32(i%DefaultPartitions))
			n := c.Nodes[leader-1]
			n.Kill(t)
			began := time.Now()
			tr.progressOfAll()
			t.Logf("without broker %d all keys went on after %v", leader, time.Since(began).Round(time.Millisecond))
			n.Start(t)
		}
		tr.progressOfAll()
	}, sub)
}

// awaitWhole waits until all three brokers have all of a topic, and returns the leader
// of a partition.
func awaitWhole(ctx context.Context, t *testing.T, adm *kadm.Client, topic string, partition int32) (leader int32) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		topics, err := adm.ListTopics(ctx, topic)
		whole := err == nil
		for _, p := range topics[topic].Partitions {
			whole = whole && len(p.ISR) == 3
		}
		if whole && len(topics[topic].Partitions) > 0 {
			return topics[topic].Partitions[partition].Leader
		}
		if time.Now().After(end) {
			t.Fatalf("not all brokers have all of %q: %v %v", topic, topics, err)
		}
		drivertest.Pause(20 * time.Millisecond)
	}
}
