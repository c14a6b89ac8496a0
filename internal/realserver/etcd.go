package realserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long etcd may take.
const (
	etcdBuild  = 10 * time.Minute // to be built, once for a version
	etcdSettle = 3 * time.Minute  // to elect a leader
)

// etcdSource is the package of the server, in a module of its own.
const etcdSource = "internal/realserver/etcdserver"

// SharedEtcd returns the one etcd that all tests of a package use.
func SharedEtcd(t testing.TB) *Server {
	t.Helper()
	return once(t, "etcd", func(t testing.TB) *Server { t.Helper(); return StartEtcd(t) })
}

// StartEtcd starts an etcd of one member. args are added to its command line:
// -cert and -key make its clients use TLS.
func StartEtcd(t testing.TB, args ...string) *Server {
	t.Helper()
	return Start(t, etcdSpec(t, etcdMember{name: "m1", peer: freePort(t), client: freePort(t)}, "", args...))
}

type etcdMember struct {
	name         string
	client, peer int
}

func etcdSpec(t testing.TB, m etcdMember, cluster string, args ...string) Spec {
	t.Helper()
	dir := newDir(t, "etcd")
	addr, scheme := loopback(m.client), "http"
	spec := Spec{Name: "etcd", Dir: dir, Addr: addr}
	if len(args) > 0 {
		scheme = "https"
	}
	spec.Command = append([]string{
		etcdBinary(t), "-name", m.name, "-dir", filepath.Join(dir, "data"),
		"-client", scheme + "://" + addr, "-peer", "http://" + loopback(m.peer), "-cluster", cluster,
	}, args...)
	spec.Probe = func(ctx context.Context) error { return etcdReady(ctx, addr) }
	if scheme == "https" {
		spec.Probe = func(ctx context.Context) error { return listens(ctx, addr) }
	}
	return spec
}

// etcdReady asks for a linearizable read: it needs a leader.
func etcdReady(ctx context.Context, addr string) error {
	text, err := httpGet(ctx, "http://"+addr+"/health")
	if err == nil && !strings.Contains(text, `"health":"true"`) {
		err = fmt.Errorf("its health is %s", text)
	}
	return err
}

// listens reports whether something accepts connections.
func listens(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func httpGet(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// EtcdMetrics returns what a member counts, as lines of "NAME{LABELS} VALUE".
func EtcdMetrics(t testing.TB, s *Server) string {
	t.Helper()
	text, err := httpGet(t.Context(), "http://"+s.Addr()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// EtcdCluster is an etcd of three members.
type EtcdCluster struct{ Members []*Server }

// SharedEtcdCluster returns the one cluster that all tests of a package use.
func SharedEtcdCluster(t testing.TB) *EtcdCluster {
	t.Helper()
	return once(t, "etcd cluster", StartEtcdCluster)
}

// StartEtcdCluster returns when all members serve.
func StartEtcdCluster(t testing.TB) *EtcdCluster {
	t.Helper()
	members, cluster := make([]etcdMember, 3), make([]string, 3)
	for i := range members {
		members[i] = etcdMember{name: memberName(i), client: freePort(t), peer: freePort(t)}
		cluster[i] = members[i].name + "=http://" + loopback(members[i].peer)
	}
	c := &EtcdCluster{}
	for _, m := range members {
		s := &Server{spec: etcdSpec(t, m, strings.Join(cluster, ","))}
		t.Cleanup(s.Stop)
		c.Members = append(c.Members, s)
	}
	c.Start(t)
	return c
}

// Start starts the members that do not run, all at once: one alone does not
// serve.
func (c *EtcdCluster) Start(t testing.TB) {
	t.Helper()
	for _, s := range c.Members {
		if s.runs() {
			continue
		}
		if err := s.launch(); err != nil {
			t.Fatalf("start %s: %v", s.spec.Name, err)
		}
	}
	for _, s := range c.Members {
		if err := s.awaitReady(t.Context()); err != nil {
			t.Fatalf("etcd at %s does not serve: %v\nits log ends with:\n%s", s.Addr(), err, s.Log())
		}
	}
}

// Restart is a crash of all members, and their start on what they have stored.
func (c *EtcdCluster) Restart(t testing.TB) {
	t.Helper()
	for _, s := range c.Members {
		s.Kill(t)
	}
	c.Start(t)
}

// Addrs returns the addresses of all members.
func (c *EtcdCluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Members {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Isolate has a member and the others send nothing to each other any more,
// while it serves its clients as well as it can; nil ends that.
func (c *EtcdCluster) Isolate(t testing.TB, m *Server) {
	t.Helper()
	for _, s := range c.Members {
		var names []string
		for i, other := range c.Members {
			if other != s && m != nil && (s == m || other == m) {
				names = append(names, memberName(i))
			}
		}
		if err := os.WriteFile(filepath.Join(s.spec.Dir, "cut"), []byte(strings.Join(names, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signal(t, syscall.SIGUSR1)
	}
}

func memberName(i int) string { return fmt.Sprint("m", i+1) }

// Leader returns the member that says that it is the leader.
func (c *EtcdCluster) Leader(t testing.TB) *Server {
	t.Helper()
	var leader *Server
	Await(t, etcdSettle, "there is a leader", func(ctx context.Context) error {
		for _, s := range c.Members {
			text, err := httpGet(ctx, "http://"+s.Addr()+"/metrics")
			if err == nil && strings.Contains(text, "\netcd_server_is_leader 1\n") {
				leader = s
				return nil
			}
		}
		return errors.New("no member says so")
	})
	return leader
}

// etcdBuilt is the path of the server's program, once it is known.
var etcdBuilt struct {
	sync.Mutex
	path string
}

// etcdBinary returns the server's program, which is built where it is missing:
// it is kept with the user's caches, by what it is built from.
func etcdBinary(t testing.TB) string {
	t.Helper()
	etcdBuilt.Lock()
	defer etcdBuilt.Unlock()
	if etcdBuilt.path != "" {
		return etcdBuilt.path
	}
	golang, err := exec.LookPath("go")
	if err != nil {
		t.Fatal("the go command is missing: it builds the etcd that is tested against")
	}
	ctx, cancel := context.WithTimeout(context.Background(), etcdBuild)
	defer cancel()
	root, err := output(ctx, golang, "list", "-m", "-f", "{{.Dir}}", "github.com/lockkeeper/lockkeeper")
	if err != nil {
		t.Fatalf("find the module: %v\n%s", err, root)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), filepath.FromSlash(etcdSource))
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "lockkeeper", "etcd-"+etcdVersion(t, source))
	if _, err := os.Stat(path); err != nil {
		unlock := lockInstalls(t)
		defer unlock()
		if _, err := os.Stat(path); err != nil { // another test binary may have been faster
			buildEtcd(ctx, t, golang, source, path)
		}
	}
	etcdBuilt.path = path
	return path
}

func buildEtcd(ctx context.Context, t testing.TB, golang, source, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(ctx, golang, "build", "-o", path+".new", ".") //nolint:gosec // found in PATH, arguments are our own
	build.Dir = source
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcd in %s: %v\n%s", source, err, out)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// etcdVersion tells builds from different sources apart.
func etcdVersion(t testing.TB, source string) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = sum.Write(text) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
