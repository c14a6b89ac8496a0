package realserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How fast Redis notices that a node is dead.
const (
	RedisNodeTimeout = 2 * time.Second // in a Cluster
	RedisDownAfter   = time.Second     // for the Sentinels
	redisSettle      = 2 * time.Minute

	// redisPatience is as long for servers that are not to fail over: no stall of
	// a loaded machine is a failure.
	redisPatience = time.Minute
)

// SentinelName is what the Sentinels call the primary.
const SentinelName = "main"

// SharedRedis returns the one Redis that all tests of a package use.
func SharedRedis(t testing.TB) *Server {
	t.Helper()
	return once(t, "redis", func(t testing.TB) *Server { t.Helper(); return StartRedis(t) })
}

// StartRedis starts a Redis that writes nothing to disk. args are added to its
// command line and may change that.
func StartRedis(t testing.TB, args ...string) *Server {
	t.Helper()
	return Start(t, redisSpec(t, args...))
}

// StartRedisWithClock starts a Redis whose wall clock the test sets: set gives
// its offset from the machine's.
func StartRedisWithClock(t testing.TB, args ...string) (s *Server, set func(offset time.Duration)) {
	t.Helper()
	spec := redisSpec(t, args...)
	clock := newClock(t, spec.Dir)
	spec.Env = clock.env()
	return Start(t, spec), func(offset time.Duration) { t.Helper(); clock.set(t, offset) }
}

func redisSpec(t testing.TB, args ...string) Spec {
	t.Helper()
	port := freePort(t)
	dir := newDir(t, "redis")
	addr := loopback(port)
	command := []string{
		need(t, "redis-server", "redis-server"), "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
		"--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0",
	}
	return Spec{
		Name: "redis", Command: append(command, args...), Dir: dir, Addr: addr,
		Probe: func(ctx context.Context) error {
			answer, err := Redis(ctx, addr, "PING")
			if err == nil && answer != "PONG" && !strings.HasPrefix(answer, "-NOAUTH") {
				err = fmt.Errorf("PING was answered with %q", answer)
			}
			return err
		},
	}
}

// redisFields asks for one of Redis's lists of "name:value" lines.
func redisFields(ctx context.Context, addr string, command ...string) (map[string]string, error) {
	text, err := Redis(ctx, addr, command...)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	return fields, nil
}

// replicaLinked reports whether a replica follows its primary.
func replicaLinked(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		f, err := redisFields(ctx, addr, "INFO", "replication")
		if err == nil && f["master_link_status"] != "up" {
			err = fmt.Errorf("%s is %s with its link %q", addr, f["role"], f["master_link_status"])
		}
		return err
	}
}

// RedisCluster is three masters and a replica for each.
type RedisCluster struct{ Nodes []*Server }

// SharedRedisCluster returns the one Cluster that all tests of a package use. It
// does not fail over.
func SharedRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	return once(t, "redis cluster", func(t testing.TB) *RedisCluster { t.Helper(); return startRedisCluster(t, redisPatience) })
}

// StartRedisCluster starts six nodes and returns when all slots are served and
// all replicas have their data.
func StartRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	return startRedisCluster(t, RedisNodeTimeout)
}

func startRedisCluster(t testing.TB, nodeTimeout time.Duration) *RedisCluster {
	t.Helper()
	cli := need(t, "redis-cli", "redis-tools")
	c := &RedisCluster{}
	for range 6 {
		c.Nodes = append(c.Nodes, StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)),
			"--cluster-node-timeout", strconv.FormatInt(nodeTimeout.Milliseconds(), 10)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), redisSettle)
	defer cancel()
	args := append([]string{"--cluster", "create"}, c.Addrs()...)
	if out, err := output(ctx, cli, append(args, "--cluster-replicas", "1", "--cluster-yes")...); err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	Await(t, redisSettle, "the cluster is whole", func(ctx context.Context) error {
		for _, n := range c.Nodes {
			if err := clusterNodeReady(ctx, n.Addr()); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func clusterNodeReady(ctx context.Context, addr string) error {
	f, err := redisFields(ctx, addr, "CLUSTER", "INFO")
	if err != nil {
		return err
	}
	if f["cluster_state"] != "ok" || f["cluster_known_nodes"] != "6" {
		return fmt.Errorf("%s: the cluster's state is %q with %s nodes", addr, f["cluster_state"], f["cluster_known_nodes"])
	}
	if f, err = redisFields(ctx, addr, "INFO", "replication"); err != nil || f["role"] == "master" && f["connected_slaves"] == "1" {
		return err
	}
	return replicaLinked(addr)(ctx)
}

// Addrs returns the addresses of all nodes.
func (c *RedisCluster) Addrs() []string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// MasterOf returns the node that serves the slot of a key.
func (c *RedisCluster) MasterOf(t testing.TB, key string) *Server {
	t.Helper()
	var owner *Server
	Await(t, redisSettle, "a master serves "+key, func(ctx context.Context) error {
		for _, n := range c.Nodes {
			answer, err := Redis(ctx, n.Addr(), "EXISTS", key)
			if err == nil && !strings.HasPrefix(answer, "-") {
				if f, err := redisFields(ctx, n.Addr(), "INFO", "replication"); err == nil && f["role"] == "master" {
					owner = n
					return nil
				}
			}
		}
		return errors.New("all nodes point elsewhere")
	})
	return owner
}

// RedisSentinel is a primary, a replica of it, and three Sentinels.
type RedisSentinel struct {
	Servers   []*Server // the first is the primary at the start
	Sentinels []*Server
}

// SharedRedisSentinel returns the one such set that all tests of a package
// use. It does not fail over.
func SharedRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	return once(t, "redis sentinel", func(t testing.TB) *RedisSentinel { t.Helper(); return startRedisSentinel(t, redisPatience) })
}

// StartRedisSentinel returns when the replica has its data and all Sentinels
// know of it and of each other.
func StartRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	return startRedisSentinel(t, RedisDownAfter)
}

func startRedisSentinel(t testing.TB, downAfter time.Duration) *RedisSentinel {
	t.Helper()
	primary := StartRedis(t)
	host, port, _ := net.SplitHostPort(primary.Addr())
	s := &RedisSentinel{Servers: []*Server{primary, StartRedis(t, "--replicaof", host+" "+port)}}
	Await(t, redisSettle, "the replica has its data", replicaLinked(s.Servers[1].Addr()))
	for range 3 {
		s.Sentinels = append(s.Sentinels, Start(t, sentinelSpec(t, host, port, downAfter)))
	}
	for _, sentinel := range s.Sentinels {
		Await(t, redisSettle, "a sentinel knows all", func(ctx context.Context) error {
			text, err := Redis(ctx, sentinel.Addr(), "SENTINEL", "MASTER", SentinelName)
			if text = strings.ReplaceAll(text, "\n", " "); err == nil && !strings.Contains(text, "num-slaves 1 num-other-sentinels 2") {
				err = errors.New(text)
			}
			return err
		})
	}
	return s
}

func sentinelSpec(t testing.TB, host, port string, downAfter time.Duration) Spec {
	t.Helper()
	spec := redisSpec(t)
	spec.Name = "redis sentinel"
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(spec.Dir, "sentinel.conf")
	_, own, _ := net.SplitHostPort(spec.Addr)
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %q\nsentinel monitor %s %s %s 2\n", own, spec.Dir, SentinelName, host, port) +
		fmt.Sprintf("sentinel down-after-milliseconds %s %d\nsentinel failover-timeout %[1]s 5000\n", SentinelName, downAfter.Milliseconds())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Command = []string{spec.Command[0], conf, "--sentinel"}
	return spec
}

// Addrs returns the addresses of the Sentinels.
func (s *RedisSentinel) Addrs() []string {
	var addrs []string
	for _, n := range s.Sentinels {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// Primary returns the server that the Sentinels call the primary.
func (s *RedisSentinel) Primary(t testing.TB) *Server {
	t.Helper()
	var found *Server
	Await(t, redisSettle, "the sentinels agree on a primary that runs", func(ctx context.Context) error {
		addr := ""
		for _, sentinel := range s.Sentinels {
			text, err := Redis(ctx, sentinel.Addr(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelName)
			if err != nil {
				return err
			}
			host, port, _ := strings.Cut(text, "\n")
			got := net.JoinHostPort(host, port)
			if addr != "" && got != addr {
				return fmt.Errorf("%s or %s", addr, got)
			}
			addr = got
		}
		for _, n := range s.Servers {
			if n.Addr() == addr {
				f, err := redisFields(ctx, addr, "INFO", "replication")
				if err == nil && f["role"] != "master" {
					err = fmt.Errorf("%s is %s", addr, f["role"])
				}
				found = n
				return err
			}
		}
		return fmt.Errorf("%s is none of the servers", addr)
	})
	return found
}
