package realserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What Debian's package rabbitmq-server has. The programs of the same names in
// /usr/sbin change to another user first; these run as who starts them.
const (
	rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	rabbitCtl    = "/usr/lib/rabbitmq/bin/rabbitmqctl"
	rabbitDebian = "rabbitmq-server"
)

// Bounds of waits. Loading its modules takes a broker 10 s on a machine that
// has nothing else to do, and 90 s were too few on one that had much.
const (
	rabbitReady   = 5 * time.Minute
	rabbitCommand = 2 * time.Minute // of one rabbitmqctl
)

// RabbitMQ is one broker. Clients are let in as guest with the password guest.
type RabbitMQ struct {
	*Server
	name    string
	network *erlangNetwork

	SecureAddr string // where SharedRabbitMQ listens with TLS
	CA         string // file with what signed its certificate
}

// SharedRabbitMQ returns the one broker that all tests of a package use.
func SharedRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	return once(t, "rabbitmq", func(t testing.TB) *RabbitMQ { t.Helper(); return startRabbitMQTLS(t) })
}

// StartRabbitMQ starts a broker. settings are further lines of its
// rabbitmq.conf; of two for one key the later one counts.
func StartRabbitMQ(t testing.TB, settings ...string) *RabbitMQ {
	t.Helper()
	n := newErlangNetwork(t)
	return n.broker(t, "n1", settings...)
}

// Ctl runs rabbitmqctl on the broker and returns what it prints. It takes a
// second or two.
func (r *RabbitMQ) Ctl(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rabbitCommand)
	defer cancel()
	args = append([]string{"-q", "-n", r.node()}, args...)
	out, err := outputWith(ctx, r.network.env(r.name), need(t, rabbitCtl, rabbitDebian), args...)
	if err != nil {
		t.Fatalf("rabbitmqctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (r *RabbitMQ) node() string { return r.name + "@localhost" }

// erlangNetwork is what the brokers of one cluster share: a directory, the
// secret in it that lets them talk to each other, and the process that tells
// them each other's ports. It is their own, so that nothing is left running
// when they end, and other brokers on the machine do not see them.
type erlangNetwork struct {
	home   string
	mapper *Server
	port   int
}

func newErlangNetwork(t testing.TB) *erlangNetwork {
	t.Helper()
	need(t, rabbitServer, rabbitDebian)
	n := &erlangNetwork{home: newDir(t, "rabbitmq"), port: freePort(t)}
	if err := os.MkdirAll(n.home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.home, ".erlang.cookie"), []byte(rand.Text()), 0o400); err != nil {
		t.Fatal(err)
	}
	addr := loopback(n.port)
	n.mapper = Start(t, Spec{
		Name: "epmd", Dir: filepath.Join(n.home, "epmd"), Addr: addr,
		Command: []string{need(t, "epmd", "erlang-base"), "-port", strconv.Itoa(n.port), "-address", "127.0.0.1"},
		Probe:   func(ctx context.Context) error { return probeErlangMapper(ctx, addr) },
	})
	return n
}

// broker starts the broker of that name.
func (n *erlangNetwork) broker(t testing.TB, name string, settings ...string) *RabbitMQ {
	t.Helper()
	dir, port := filepath.Join(n.home, name), freePort(t)
	lines := append([]string{
		"listeners.tcp.1 = " + loopback(port),
		"log.console = true", "log.console.level = warning", "log.file = false",
		"disk_free_limit.absolute = 64MB",
		"cluster_partition_handling = pause_minority",
	}, settings...)
	files := map[string]string{
		"rabbitmq.conf":   strings.Join(lines, "\n") + "\n",
		"enabled_plugins": "[].\n",
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := loopback(port)
	server := Start(t, Spec{
		Name: "rabbitmq", Command: []string{rabbitServer}, Dir: dir, Addr: addr,
		Env: append(n.env(name),
			"RABBITMQ_DIST_PORT="+strconv.Itoa(freePort(t)),
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
			// The script then becomes the broker, instead of staying as its
			// parent: a kill of the process is one of the broker.
			"RUNNING_UNDER_SYSTEMD=true"),
		Probe: func(ctx context.Context) error { return probeAMQP(ctx, addr) },
		Ready: rabbitReady,
	})
	return &RabbitMQ{Server: server, name: name, network: n}
}

// env is what a broker and its rabbitmqctl must agree on.
func (n *erlangNetwork) env(name string) []string {
	dir := filepath.Join(n.home, name)
	return []string{
		"HOME=" + n.home, "LANG=C.UTF-8",
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + strconv.Itoa(n.port),
		"ERL_CRASH_DUMP=" + filepath.Join(dir, "erl_crash.dump"),
		"RABBITMQ_NODENAME=" + name + "@localhost",
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq.conf"),
		"RABBITMQ_CONFIG_FILES=" + filepath.Join(dir, "conf.d"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + filepath.Join(dir, "advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + filepath.Join(dir, "generated"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_PID_FILE=" + filepath.Join(dir, "broker-pid"),
	}
}

// probeErlangMapper asks for the names that are registered. The answer begins
// with the mapper's port.
func probeErlangMapper(ctx context.Context, addr string) error {
	_, err := exchange(ctx, addr, []byte{0, 1, 'n'}, 4)
	return err
}

// probeAMQP sends a protocol header. A broker that takes clients answers with
// the method 10 of the class 10, connection.start, in a frame.
func probeAMQP(ctx context.Context, addr string) error {
	answer, err := exchange(ctx, addr, []byte("AMQP\x00\x00\x09\x01"), 11)
	if err == nil && binary.BigEndian.Uint32(answer[7:]) != 10<<16|10 {
		err = fmt.Errorf("the protocol header was answered with %x", answer)
	}
	return err
}

// exchange sends a request on a new connection and returns the first n bytes
// of the answer.
func exchange(ctx context.Context, addr string, request []byte, n int) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	answer := make([]byte, n)
	_, err = io.ReadFull(conn, answer)
	return answer, err
}

// RabbitMQCluster is brokers that share their queues.
type RabbitMQCluster struct{ Nodes []*RabbitMQ }

// StartRabbitMQCluster starts three brokers and joins them, which takes about a
// minute.
func StartRabbitMQCluster(t testing.TB) *RabbitMQCluster {
	t.Helper()
	n := newErlangNetwork(t)
	c := &RabbitMQCluster{}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.Nodes = append(c.Nodes, n.broker(t, name))
	}
	for _, r := range c.Nodes[1:] {
		r.Ctl(t, "stop_app")
		r.Ctl(t, "join_cluster", c.Nodes[0].node())
		r.Ctl(t, "start_app")
	}
	return c
}

// Addrs returns the addresses of all brokers.
func (c *RabbitMQCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, r := range c.Nodes {
		addrs[i] = r.Addr()
	}
	return addrs
}
