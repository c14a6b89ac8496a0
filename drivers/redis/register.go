package redis

import (
	"context"
	"fmt"

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
	client := t.client()
	c, err := connect(ctx, client, &t.options, true)
	if err != nil {
		_ = client.Close()
		if t.master != "" {
			err = fmt.Errorf("find the primary %q: %w", t.master, err)
		}
		return nil, err
	}
	return c, nil
}
