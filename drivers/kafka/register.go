package kafka

import (
	"context"
	"errors"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func init() { queue.Register(scheme, Open) }

// Open opens the queues at a URL, as package queue does; the package comment
// has the form.
func Open(ctx context.Context, url string) (driver.Conn, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	c, err := New(ctx, t.client(), &t.options)
	if t.user != "" && errors.Is(err, lease.ErrDenied) {
		err = named("user", t.user, err)
	}
	return c, err
}
