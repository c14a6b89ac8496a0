package realserver

import (
	"testing"
)

// KafkaCluster is brokers that hold each other's topics; each is a controller,
// too. Node i has the id i+1.
type KafkaCluster struct{ Nodes []*Server }

// StartKafkaCluster starts three brokers and returns when each knows the others.
// settings are further lines of their configurations.
func StartKafkaCluster(t testing.TB, settings ...string) *KafkaCluster {
	t.Helper()
	const nodes = 3
	quorum := make([]string, nodes)
	for i := range quorum {
		quorum[i] = FreeAddr(t)
	}
	settings = append([]string{
		"offsets.topic.replication.factor=3",
		"transaction.state.log.replication.factor=3", "transaction.state.log.min.isr=2",
		"share.coordinator.state.topic.replication.factor=3", "share.coordinator.state.topic.min.isr=2",
		"replica.lag.time.max.ms=5000",
	}, settings...)
	c := &KafkaCluster{}
	for i := range quorum {
		node := kafkaNode{id: i + 1, addr: FreeAddr(t), quorum: quorum, settings: settings}
		s := &Server{spec: node.spec(t)}
		t.Cleanup(s.Stop)
		if err := s.launch(); err != nil { // they wait for each other
			t.Fatalf("start kafka: %v", err)
		}
		c.Nodes = append(c.Nodes, s)
	}
	for _, s := range c.Nodes {
		if err := s.awaitReady(t.Context()); err != nil {
			t.Fatalf("kafka at %s does not serve: %v\nits log ends with:\n%s", s.Addr(), err, s.Log())
		}
	}
	return c
}

// Addrs returns the addresses of all brokers.
func (c *KafkaCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	return addrs
}
