package remote

import (
	"context"
	"testing"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/lock/locktest"
)

func TestLockConformance(t *testing.T) {
	url := startDaemon(t, nil)
	locktest.Run(t, locktest.Harness{Open: func(t testing.TB) lockdriver.Conn {
		c, err := openLocks(context.Background(), url) // the suite opens one in a cleanup too
		if err != nil {
			t.Fatal(err)
		}
		return c
	}})
}
