package bench

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	// The drivers whose URLs are opened.
	_ "github.com/lockkeeper/lockkeeper/drivers/etcd"
	_ "github.com/lockkeeper/lockkeeper/drivers/redis"
	_ "github.com/lockkeeper/lockkeeper/drivers/remote"
	_ "github.com/lockkeeper/lockkeeper/drivers/zookeeper"
	_ "github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// Servers are those of others, which stay up for the whole run.
type Servers struct {
	Redis       *realserver.Server // writes nothing to disk
	SyncedRedis *realserver.Server // syncs each write: appendfsync always
	Etcd        *realserver.Server // one member
	ZooKeeper   *realserver.ZooKeeperEnsemble
	Rabbit      *realserver.RabbitMQ // one node; stopped while it is not measured
}

// startServers starts what the lines need.
func startServers(t testing.TB, lines []*Line) *Servers {
	t.Helper()
	wanted := func(on string) bool {
		for _, l := range lines {
			if strings.HasPrefix(l.Key, on) {
				return true
			}
		}
		return false
	}
	s := &Servers{}
	if wanted("redsync/memory/") || wanted("redis/") {
		s.Redis = realserver.StartRedis(t)
	}
	if wanted("redsync/synced/") {
		s.SyncedRedis = realserver.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	}
	if wanted("etcd/") {
		s.Etcd = realserver.StartEtcd(t)
	}
	if wanted("go-zookeeper/") || wanted("zookeeper/") {
		s.ZooKeeper = realserver.StartZooKeeperEnsemble(t, realserver.ZooKeeperSynced)
	}
	if wanted("rabbitmq/") {
		s.Rabbit = realserver.StartRabbitMQ(t)
		s.Rabbit.Pause(t)
	}
	return s
}

// newStore returns the URL of a store on disk that is not there yet.
func newStore(t testing.TB) string {
	t.Helper()
	return "file://" + filepath.Join(t.TempDir(), "store")
}

// programDir is where program has put what it built, "" until then.
var programDir string

// program builds the daemon's binary, once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lockkeeper-bench-")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "lockkeeper")
	out, err := exec.Command("go", "build", "-C", "..", "-o", path, "./cmd/lockkeeper").CombinedOutput() //nolint:gosec // our own program
	if err != nil {
		err = fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return path, err
})

// removeProgram removes what program has built.
func removeProgram() error {
	if programDir == "" {
		return nil
	}
	return os.RemoveAll(programDir)
}

// daemon is a `lockkeeper serve` of its own process.
type daemon struct {
	*realserver.Server
	url string
}

// startDaemon starts a daemon on an empty store: on disk, or as data says.
func startDaemon(t testing.TB, data string) *daemon {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if data == "" {
		data = filepath.Join(dir, "store")
	}
	addr := realserver.FreeAddr(t)
	url := "http://" + addr
	return &daemon{url: url, Server: realserver.Start(t, realserver.Spec{
		Name: "lockkeeper", Dir: dir, Addr: addr,
		Command: []string{path, "serve", "--listen", addr, "--data", data, "--log-level", "warn"},
		Probe: func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", http.NoBody)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("/readyz answers %s", answer.Status)
			}
			return err
		},
	})}
}

// peakRSS returns the most memory, in MiB, that a process had in use at once
// since resetPeakRSS.
func peakRSS(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	t.Fatalf("process %d does not tell its peak of memory", pid)
	return 0
}

func resetPeakRSS(t testing.TB, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// describe says which versions of the servers these are.
func (s *Servers) describe(t testing.TB, m *Machine) {
	t.Helper()
	for _, redis := range []*realserver.Server{s.Redis, s.SyncedRedis} {
		if redis != nil && m.Redis == "" {
			m.Redis = s.redisVersion(t, redis.Addr())
		}
	}
	if s.Rabbit != nil {
		s.Rabbit.Continue(t)
		m.RabbitMQ = strings.TrimSpace(s.Rabbit.Ctl(t, "version"))
		s.Rabbit.Pause(t)
	}
}

func (*Servers) redisVersion(t testing.TB, addr string) string {
	t.Helper()
	info, err := realserver.Redis(t.Context(), addr, "INFO", "server")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
