package realserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// zooKeeperJars are what a server needs: its pom calls two of them provided.
var zooKeeperJars = []string{
	"org.apache.zookeeper:zookeeper:3.9.5",
	"io.dropwizard.metrics:metrics-core:4.1.12.1",
	"org.xerial.snappy:snappy-java:1.1.10.5",
	"ch.qos.logback:logback-classic:1.3.15",
}

// debianJars has the server of Debian's package zookeeper, for machines that do
// not reach Maven's repository.
const debianJars = "/usr/share/java"

// How fast ZooKeeper is set up to be.
const (
	ZooKeeperTick      = 500 * time.Millisecond // sessions last two ticks at least
	ZooKeeperSyncLimit = 4                      // ticks that a follower may lag or be silent
	zooKeeperSettle    = 3 * time.Minute
)

// ZooKeeperSynced is a setting for servers that sync their disks, as they do
// in use: others do not have to wait for a disk that is busy.
const ZooKeeperSynced = "forceSync=yes"

// zooKeeperLog has the server log warnings.
const zooKeeperLog = `<configuration><appender name="o" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d %-5p %c{0} %m%n</pattern></encoder></appender><root level="WARN"><appender-ref ref="o"/></root></configuration>
`

// peer is how the servers of an ensemble reach one of them: as followers their
// leader, and for votes.
type peer struct {
	link string
	vote int
}

// ZooKeeper sends one four-letter word to a ZooKeeper and returns what it says.
func ZooKeeper(ctx context.Context, addr, word string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// zooKeeperMode returns "standalone", "leader" or "follower".
func zooKeeperMode(ctx context.Context, addr string) (string, error) {
	text, err := ZooKeeper(ctx, addr, "srvr")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode), nil
		}
	}
	return "", fmt.Errorf("%s: %q", addr, strings.TrimSpace(text))
}

// SharedZooKeeper returns the one standalone server that all tests of a package
// use.
func SharedZooKeeper(t testing.TB) *Server {
	t.Helper()
	return once(t, "zookeeper", func(t testing.TB) *Server { t.Helper(); return StartZooKeeper(t) })
}

// StartZooKeeper starts a server that stands alone. settings are further lines
// of its configuration; of two for one key the later one counts.
func StartZooKeeper(t testing.TB, settings ...string) *Server {
	t.Helper()
	return Start(t, zooKeeperSpec(t, 0, nil, settings))
}

// zooKeeperSpec is for the server with the number id of an ensemble, or for one
// that stands alone.
func zooKeeperSpec(t testing.TB, id int, peers []peer, settings []string) Spec {
	t.Helper()
	dir, port := newDir(t, "zookeeper"), freePort(t)
	data, conf, log := filepath.Join(dir, "data"), filepath.Join(dir, "zoo.cfg"), filepath.Join(dir, "logback.xml")
	lines := []string{
		fmt.Sprint("tickTime=", ZooKeeperTick.Milliseconds()), "initLimit=20", fmt.Sprint("syncLimit=", ZooKeeperSyncLimit),
		"dataDir=" + data, fmt.Sprint("clientPort=", port), "clientPortAddress=127.0.0.1",
		"admin.enableServer=false", "maxClientCnxns=0", "4lw.commands.whitelist=*",
		"forceSync=no", // a crash of the process loses nothing; ZooKeeperSynced says otherwise
	}
	for i, p := range peers {
		lines = append(lines, fmt.Sprintf("server.%d=%s:%d", i+1, p.link, p.vote))
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		conf: strings.Join(append(lines, settings...), "\n") + "\n", log: zooKeeperLog,
		filepath.Join(data, "myid"): strconv.Itoa(id + 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The container settings are properties and not lines of the configuration.
	return Spec{
		Name: "zookeeper", Dir: dir, Addr: loopback(port),
		Command: []string{
			need(t, "java", "default-jre-headless"), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
			"-Dznode.container.checkIntervalMs=1000", "-Dznode.container.maxPerMinute=600000",
			"-Dlogback.configurationFile=" + log, "-cp", zooKeeperClassPath(t),
			"org.apache.zookeeper.server.quorum.QuorumPeerMain", conf,
		},
		Probe: func(ctx context.Context) error {
			if len(peers) > 0 { // it serves when the others are there, too
				_, err := ZooKeeper(ctx, loopback(port), "ruok")
				return err
			}
			_, err := zooKeeperMode(ctx, loopback(port))
			return err
		},
		Ready: zooKeeperSettle,
	}
}

func zooKeeperClassPath(t testing.TB) string {
	t.Helper()
	dir, err := jarsOf(t, "zookeeper-3.9.5", zooKeeperJars...)
	if err == nil {
		return filepath.Join(dir, "*")
	}
	t.Logf("ZooKeeper from Maven: %v; trying Debian's", err)
	jar := filepath.Join(debianJars, "zookeeper.jar")
	ensure(t, jar, "zookeeper", func() (string, error) { _, err := os.Stat(jar); return jar, err })
	return filepath.Join(debianJars, "*")
}

// ZooKeeperEnsemble is three servers, one of which leads.
type ZooKeeperEnsemble struct{ Servers []*Server }

// SharedZooKeeperEnsemble returns the one ensemble that all tests of a package
// use.
func SharedZooKeeperEnsemble(t testing.TB) *ZooKeeperEnsemble {
	t.Helper()
	return once(t, "zookeeper ensemble", func(t testing.TB) *ZooKeeperEnsemble { t.Helper(); return StartZooKeeperEnsemble(t) })
}

// StartZooKeeperEnsemble starts three servers and returns when all serve.
func StartZooKeeperEnsemble(t testing.TB, settings ...string) *ZooKeeperEnsemble {
	t.Helper()
	return StartZooKeeperEnsembleOver(t, func(_, _ int, addr string) string { return addr }, settings...)
}

// StartZooKeeperEnsembleOver does the same with servers that reach each other
// as leader and follower over other addresses: via returns the one by which the
// server from, counted from 0, reaches to at addr. They vote directly.
func StartZooKeeperEnsembleOver(t testing.TB, via func(from, to int, addr string) string, settings ...string) *ZooKeeperEnsemble {
	t.Helper()
	const servers = 3
	peers := make([]peer, servers)
	for i := range peers {
		peers[i] = peer{link: loopback(freePort(t)), vote: freePort(t)}
	}
	e := &ZooKeeperEnsemble{}
	for i := range peers {
		seen := slices.Clone(peers)
		for j := range seen {
			if j != i {
				seen[j].link = via(i, j, seen[j].link)
			}
		}
		s := &Server{spec: zooKeeperSpec(t, i, seen, settings)}
		t.Cleanup(s.Stop)
		if err := s.launch(); err != nil { // they wait for each other
			t.Fatalf("start zookeeper: %v", err)
		}
		e.Servers = append(e.Servers, s)
	}
	e.AwaitAll(t)
	return e
}

// AwaitAll waits until all servers serve.
func (e *ZooKeeperEnsemble) AwaitAll(t testing.TB) {
	t.Helper()
	for _, s := range e.Servers {
		Await(t, zooKeeperSettle, "all servers serve", func(ctx context.Context) error {
			_, err := zooKeeperMode(ctx, s.Addr())
			return err
		})
	}
}

// Addrs returns the addresses of all servers.
func (e *ZooKeeperEnsemble) Addrs() []string {
	var addrs []string
	for _, s := range e.Servers {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Leader returns the server that leads, and those that follow it.
func (e *ZooKeeperEnsemble) Leader(t testing.TB) (leader *Server, followers []*Server) {
	t.Helper()
	Await(t, zooKeeperSettle, "there is a leader", func(ctx context.Context) error {
		leader, followers = nil, nil
		for _, s := range e.Servers {
			switch mode, err := zooKeeperMode(ctx, s.Addr()); {
			case err != nil: // it is down, or looks for a leader
			case mode == "leader":
				leader = s
			default:
				followers = append(followers, s)
			}
		}
		if leader == nil || len(followers) == 0 {
			return errors.New("no server leads others")
		}
		return nil
	})
	return leader, followers
}
