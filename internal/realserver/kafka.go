package realserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kafkaVersion is the newest that Maven has.
const kafkaVersion = "4.4.0"

// kafkaJars are what a broker needs: it logs by slf4j, and brings no logger.
var kafkaJars = []string{
	"org.apache.kafka:kafka_2.13:" + kafkaVersion,
	"org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
}

// Bounds of a broker's start.
const (
	kafkaFormat = 3 * time.Minute // of its storage
	kafkaSettle = 3 * time.Minute
)

// kafkaCluster is the id of every cluster: any 16 bytes, in base64.
const kafkaCluster = "bG9ja2tlZXBlci10ZXN0cw"

// kafkaLog has the broker log warnings.
const kafkaLog = `rootLogger.level=WARN
rootLogger.appenderRef.o.ref=o
appender.o.type=Console
appender.o.name=o
appender.o.layout.type=PatternLayout
appender.o.layout.pattern=%d %p %c{1} %m%n
`

// SharedKafka returns the one broker that all tests of a package use.
func SharedKafka(t testing.TB) *Server {
	t.Helper()
	return once(t, "kafka", func(t testing.TB) *Server { t.Helper(); return StartKafka(t) })
}

// StartKafka starts a broker that is its own controller (KRaft). It makes no
// topic by itself. settings are further lines of its configuration; of two for
// one key the later one counts.
func StartKafka(t testing.TB, settings ...string) *Server {
	t.Helper()
	node := kafkaNode{id: 1, addr: FreeAddr(t), quorum: []string{FreeAddr(t)}, settings: settings}
	return Start(t, node.spec(t))
}

// kafkaNode is a broker to be, and a controller.
type kafkaNode struct {
	id       int
	addr     string   // for its clients
	quorum   []string // addresses of all controllers, by id from 1
	settings []string
	format   []string // arguments, besides the usual
}

// spec writes the configuration and formats the storage.
func (n *kafkaNode) spec(t testing.TB) Spec {
	t.Helper()
	dir := newDir(t, "kafka")
	data := filepath.Join(dir, "data")
	conf, log := filepath.Join(dir, "server.properties"), filepath.Join(dir, "log4j2.properties")
	voters := make([]string, len(n.quorum))
	for i, addr := range n.quorum {
		voters[i] = fmt.Sprintf("%d@%s", i+1, addr)
	}
	quorum := n.quorum[n.id-1]
	lines := []string{
		"process.roles=broker,controller", fmt.Sprint("node.id=", n.id), "controller.quorum.voters=" + strings.Join(voters, ","),
		"listeners=CLIENTS://" + n.addr + ",CONTROLLER://" + quorum, "advertised.listeners=CLIENTS://" + n.addr,
		"inter.broker.listener.name=CLIENTS", "controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT",
		"log.dirs=" + data, "auto.create.topics.enable=false", "default.replication.factor=1", "min.insync.replicas=1",
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=1",
		"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
		"share.coordinator.state.topic.num.partitions=1",
		// Nobody has to wait for members that may yet come, nor long for silent ones.
		"group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
		"group.share.heartbeat.interval.ms=500", "group.share.min.heartbeat.interval.ms=500",
		"group.share.min.session.timeout.ms=3000", "group.share.session.timeout.ms=10000",
		"group.share.min.record.lock.duration.ms=1000",
		"group.share.min.assignment.interval.ms=0", "group.share.assignment.interval.ms=0",
		// One that was killed is not let in again before its session ends.
		"broker.session.timeout.ms=2500", "broker.heartbeat.interval.ms=500",
		// A small machine, and a fast one.
		"num.network.threads=2", "num.io.threads=4", "background.threads=2", "log.cleaner.dedupe.buffer.size=4194304",
		"log.index.size.max.bytes=65536", "file.delete.delay.ms=1000",
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{conf: strings.Join(append(lines, n.settings...), "\n") + "\n", log: kafkaLog} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	jars, err := jarsOf(t, "kafka-"+kafkaVersion, kafkaJars...)
	if err != nil {
		t.Fatalf("Kafka from Maven: %v", err)
	}
	java := need(t, "java", "default-jre-headless")
	args := []string{
		"-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + log, "-cp", filepath.Join(jars, "*"),
	}
	ctx, cancel := context.WithTimeout(t.Context(), kafkaFormat)
	defer cancel()
	format := slices.Concat(args, []string{"kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", conf}, n.format)
	if out, err := output(ctx, java, format...); err != nil {
		t.Fatalf("format the storage of Kafka: %v\n%s", err, out)
	}
	return Spec{
		Name: "kafka", Dir: dir, Addr: n.addr, Command: slices.Concat([]string{java}, args, []string{"kafka.Kafka", conf}),
		Probe: func(ctx context.Context) error { return kafkaReady(ctx, n.addr, len(n.quorum)) }, Ready: kafkaSettle,
	}
}

// kafkaMetadata is a Metadata request, version 1, for no topic: its length, key,
// version, correlation id, no client id, and no topics.
var kafkaMetadata = []byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0}

// kafkaReady asks which brokers serve: one that has only begun to lists none, and
// all are wanted.
func kafkaReady(ctx context.Context, addr string, want int) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write(kafkaMetadata); err != nil {
		return err
	}
	var answer [12]byte // length, correlation id, and the number of brokers
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(answer[8:]); int(n) != want {
		return fmt.Errorf("it lists %d brokers, not %d", n, want)
	}
	return nil
}
