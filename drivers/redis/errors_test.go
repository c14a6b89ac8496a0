package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
)

// replyError is an error reply of a server.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError marks it as one, for go-redis.
func (replyError) RedisError() {}

// TestClassify: what an error says became of the call.
func TestClassify(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		err  error
		sure bool
		want error
	}{
		{replyError("NOAUTH Authentication required."), true, lease.ErrDenied},
		{replyError("ERR AUTH <password> called without any password configured for the default user."), true, lease.ErrDenied},
		{replyError("NOPERM this user has no permissions"), true, lease.ErrDenied},
		{replyError("READONLY You can't write against a read only replica. script: x, on @user_script:12."), true, lease.ErrUnavailable},
		{replyError("ERR Error running script (call to f_x): @user_script:12: @user_script: 12: -READONLY You can't write"), true, lease.ErrUnavailable},
		{replyError("ERR Error running script (call to f_x): @user_script:1: -OOM command not allowed"), true, lease.ErrNoSpace},
		{replyError("OOM command not allowed when used memory > 'maxmemory'."), true, lease.ErrNoSpace},
		{replyError("LOADING Redis is loading the dataset in memory"), true, lease.ErrUnavailable},
		{replyError("CLUSTERDOWN The cluster is down"), true, lease.ErrUnavailable},
		{replyError("ERR max number of clients reached"), true, lease.ErrUnavailable},
		{refused, true, lease.ErrUnavailable},
		{refused, false, lease.ErrUnknown}, // an attempt before it may have come through
		{goredis.ErrPoolTimeout, true, lease.ErrUnavailable},
		{io.EOF, true, lease.ErrUnknown},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true, lease.ErrUnknown},
		{context.DeadlineExceeded, true, lease.ErrUnknown},
	} {
		if got := classify(c.err, c.sure); !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v (sure %v): %v; want %v", c.err, c.sure, got, c.want)
		}
	}
	plain := replyError("WRONGTYPE Operation against a key")
	if got := classify(plain, true); got != error(plain) {
		t.Errorf("%v became %v", plain, got)
	}
}
