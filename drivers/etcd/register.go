package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

func init() {
	for _, scheme := range schemes {
		lock.Register(scheme, Open)
	}
}

// Open opens the locks at a URL, as package lock does; the package comment has
// the forms.
func Open(ctx context.Context, url string) (driver.Conn, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(t.config())
	if err != nil { // it has asked for a token
		return nil, explain(classify(err, false))
	}
	c, err := connect(ctx, client, &t.options, true)
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return c, nil
}
