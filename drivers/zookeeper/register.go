package zookeeper

import (
	"context"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

func init() { lock.Register(scheme, Open) }

// Open opens the locks at a URL, as package lock does; the package comment has
// the form.
func Open(ctx context.Context, url string) (driver.Conn, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	o, err := t.options.withDefaults()
	if err != nil {
		return nil, err
	}
	return dial(ctx, t.addrs, o)
}
