package rabbitmq

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestTLS: a broker is talked to over TLS if its certificate is for the host of
// the URL and is signed by whom the URL names.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := realserver.SharedRabbitMQ(t)
	ca := url.QueryEscape(s.CA)
	c := openURL(t, "amqps://"+s.SecureAddr+"?ca_file="+ca)
	defer c.Close()
	if _, err := c.Declare(t.Context(), &driver.Topology{Queues: []driver.Queue{{Name: "tls"}}}, false); err != nil {
		t.Fatal(err)
	}
	rs, err := c.Publish(t.Context(), []driver.Publishing{{Route: driver.Route{Key: "tls"}, Message: &driver.Message{Body: []byte("secret")}, Mandatory: true}})
	if err != nil || rs[0].Err != nil {
		t.Fatalf("Publish: %v %v", rs, err)
	}
	ds, err := c.Receive(t.Context(), &driver.ReceiveRequest{Queue: "tls", Consumer: "c", Max: 1, Wait: 10 * time.Second})
	if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != "secret" {
		t.Fatalf("Receive: %+v %v", ds, err)
	}
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	drivertest.Refused(t, queue.OpenConn, 15*time.Second, []drivertest.Wrong{
		{URL: "amqps://" + s.SecureAddr, Want: lease.ErrUnavailable, Says: "certificate"},
		{URL: "amqps://" + strings.Replace(s.SecureAddr, "127.0.0.1", "localhost", 1) + "?ca_file=" + ca, Want: lease.ErrUnavailable, Says: "localhost"},
		{URL: "amqps://" + s.SecureAddr + "?ca_file=" + url.QueryEscape(none), Want: lease.ErrInvalid, Says: "ca_file"},
		{URL: "amqps://guest:wrong@" + s.SecureAddr + "?ca_file=" + ca, Want: lease.ErrDenied, Says: "password"},
		{URL: "amqp://" + s.SecureAddr + "?timeout=2s", Want: lease.ErrUnavailable},
	}...)
}
