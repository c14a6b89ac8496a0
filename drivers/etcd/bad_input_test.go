package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// guarded starts an etcd that wants a user: app may use lockkeeper/ and no more.
func guarded(t *testing.T) string {
	t.Helper()
	s := realserver.StartEtcd(t)
	ctx := drivertest.Bounded(t)
	client, err := clientv3.New((&target{addrs: []string{s.Addr()}}).config())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	prefix := clientv3.GetPrefixRangeEnd(DefaultPrefix)
	_, err1 := client.UserAdd(ctx, "root", "secret")
	_, err2 := client.UserGrantRole(ctx, "root", "root")
	_, err3 := client.RoleAdd(ctx, "locks")
	_, err4 := client.RoleGrantPermission(ctx, "locks", DefaultPrefix, prefix, clientv3.PermissionType(clientv3.PermReadWrite))
	_, err5 := client.UserAdd(ctx, "app", "word")
	_, err6 := client.UserGrantRole(ctx, "app", "locks")
	_, err7 := client.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	return s.Addr()
}

// slow is for servers that check passwords: a hash takes its time.
const slow = "?timeout=10s"

// TestWrongServer: what cannot work is a clear error, in bounded time.
func TestWrongServer(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	nobody := "127.0.0.1:1"
	auth := guarded(t)
	single := realserver.SharedEtcd(t).Addr()
	drivertest.Refused(t, lock.OpenConn, 15*time.Second, []drivertest.Wrong{
		{URL: "etcd://" + web.Listener.Addr().String(), Want: lease.ErrUnavailable, Says: "not an etcd"},
		{URL: "etcd://" + mute.Addr().String() + "?timeout=300ms", Want: lease.ErrUnavailable, Says: "etcd"},
		{URL: "etcd://" + nobody, Want: lease.ErrUnavailable, Says: "refused"},
		{URL: "etcd://" + auth + slow, Want: lease.ErrDenied},
		{URL: "etcd://app:wrong@" + auth + slow, Want: lease.ErrDenied, Says: "authentication failed"},
		{URL: "etcd://nobody:wrong@" + auth + slow, Want: lease.ErrDenied, Says: "authentication failed"},
		{URL: "etcd://app:word@" + auth + "/other" + slow, Want: lease.ErrDenied, Says: "permission denied"},
		{URL: "etcds://" + single + "?timeout=500ms", Want: lease.ErrUnavailable},
		{URL: "etcd://" + single + "?unknown=1", Want: lease.ErrInvalid, Says: "unknown"},
	}...)
	handOver(t, "etcd://app:word@"+auth+slow)
}

// handOver has one wait for what another holds.
func handOver(t *testing.T, url string) {
	t.Helper()
	ctx, name := drivertest.Bounded(t), drivertest.Fresh(t)
	a, b := drivertest.OpenLocker(t, url), drivertest.OpenLocker(t, url)
	held, err := a.Acquire(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan error, 1)
	go func() {
		_, err := b.Acquire(ctx, name, nil)
		granted <- err
	}()
	drivertest.Waiting(ctx, t, a, name, 1)
	if err := errors.Join(held.Renew(ctx), held.Release(ctx), <-granted); err != nil {
		t.Error(err)
	}
}

// TestTLS: etcds:// checks the server against the authority it is given.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	err1 := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	err2 := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	s := realserver.StartEtcd(t, "-cert", cert, "-key", key)
	handOver(t, "etcds://"+s.Addr()+"?ca_file="+cert)
	handOver(t, "etcds://"+s.Addr()+"?ca_file="+cert+"&cert_file="+cert+"&key_file="+key)
	for _, url := range []string{"etcds://" + s.Addr() + "?timeout=500ms", "etcd://" + s.Addr() + "?timeout=500ms"} {
		if c, err := Open(context.Background(), url); !errors.Is(err, lease.ErrUnavailable) {
			t.Errorf("%s: %v, %v", url, c, err)
		}
	}
}

// TestOwnClient: New works over a client of the caller's, which Close leaves
// open.
func TestOwnClient(t *testing.T) {
	t.Parallel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{realserver.SharedEtcd(t).Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := drivertest.Bounded(t)
	c, err := New(ctx, client, &Options{Prefix: "own/"})
	if err != nil {
		t.Fatal(err)
	}
	name := drivertest.Fresh(t)
	if _, _, err := c.Acquire(ctx, &driver.Request{Name: name, Holder: "h", TTL: time.Minute}); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got, err := client.Get(ctx, "own/"+name+separator+kindExclusive); err != nil || got.Count != 1 {
		t.Errorf("the key under the prefix: %+v, %v", got, err)
	}
}

// TestTooLarge: a request that etcd takes no longer is refused, and nothing is
// half done.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, quick(realserver.SharedEtcd(t).Addr()))
	name := drivertest.Fresh(t)
	r := &driver.Request{Name: name, Holder: "h", TTL: time.Minute, Meta: map[string]string{}}
	for i := range driver.MaxMeta {
		r.Meta[string(rune('a'+i))] = strings.Repeat("\x01", driver.MaxMetaValue) // six bytes each, as JSON
	}
	for i := 1; i < driver.MaxNames; i++ {
		r.More = append(r.More, name+"/"+string(rune(0x100+i)))
	}
	if _, _, err := c.Acquire(ctx, r); !errors.Is(err, lease.ErrLimit) {
		t.Errorf("Acquire: %v; want %v", err, lease.ErrLimit)
	}
	if infos, err := c.List(ctx, &driver.ListRequest{Prefix: name}); err != nil || len(infos) != 0 {
		t.Errorf("left: %+v, %v", infos, err)
	}
}
