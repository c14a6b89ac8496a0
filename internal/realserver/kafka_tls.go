package realserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Who logs in at a broker of StartKafkaTLS. KafkaUser may do everything, and
// KafkaGuest, with the same password, what it is let do.
const (
	KafkaUser     = "tester"
	KafkaGuest    = "guest"
	KafkaPassword = "secret of the tests"
)

// StartKafkaTLS starts a broker to which clients come by TLS alone, and log in by
// PLAIN or SCRAM. Its certificate is for 127.0.0.1 and for no name; ca is a file
// with what signed it.
func StartKafkaTLS(t testing.TB) (s *Server, ca string) {
	t.Helper()
	dir := newDir(t, "certificate")
	ca, key := certificate(t, dir)
	store := filepath.Join(dir, "store.pem")
	var both []byte
	for _, path := range []string{key, ca} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	if err := os.WriteFile(store, both, 0o600); err != nil { //nolint:gosec // below the directory of these servers
		t.Fatal(err)
	}
	node := kafkaNode{id: 1, addr: FreeAddr(t), quorum: []string{FreeAddr(t)}}
	inner := FreeAddr(t)
	const security, scram = "org.apache.kafka.common.security.", "ScramLoginModule required;"
	plain := fmt.Sprintf(security+"plain.PlainLoginModule required user_%s=%q user_%s=%[2]q;", KafkaUser, KafkaPassword, KafkaGuest)
	node.settings = []string{
		"listeners=CLIENTS://" + node.addr + ",INNER://" + inner + ",CONTROLLER://" + node.quorum[0],
		"advertised.listeners=CLIENTS://" + node.addr + ",INNER://" + inner, "inter.broker.listener.name=INNER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,INNER:PLAINTEXT,CLIENTS:SASL_SSL",
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + store,
		"listener.name.clients.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.clients.plain.sasl.jaas.config=" + plain,
		"listener.name.clients.scram-sha-256.sasl.jaas.config=" + security + "scram." + scram,
		"listener.name.clients.scram-sha-512.sasl.jaas.config=" + security + "scram." + scram,
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS;User:" + KafkaUser,
	}
	for _, kind := range []string{"256", "512"} {
		for _, user := range []string{KafkaUser, KafkaGuest} {
			node.format = append(node.format, "-S", fmt.Sprintf("SCRAM-SHA-%s=[name=%s,password=%q]", kind, user, KafkaPassword))
		}
	}
	spec := node.spec(t)
	spec.Probe = func(ctx context.Context) error { return kafkaReady(ctx, inner, 1) }
	return Start(t, spec), ca
}
