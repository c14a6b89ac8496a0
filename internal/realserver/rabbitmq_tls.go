package realserver

import "testing"

// startRabbitMQTLS starts a broker that listens with TLS besides. Its certificate
// is for 127.0.0.1 and for no name.
func startRabbitMQTLS(t testing.TB) *RabbitMQ {
	t.Helper()
	cert, key := certificate(t, newDir(t, "certificate"))
	addr := loopback(freePort(t))
	r := StartRabbitMQ(t, "listeners.ssl.1 = "+addr,
		"ssl_options.cacertfile = "+cert, "ssl_options.certfile = "+cert, "ssl_options.keyfile = "+key,
		"ssl_options.verify = verify_none", "ssl_options.fail_if_no_peer_cert = false")
	r.SecureAddr, r.CA = addr, cert
	return r
}
