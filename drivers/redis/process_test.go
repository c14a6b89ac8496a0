package redis

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

func TestStoppedHolder(t *testing.T) {
	t.Parallel()
	drivertest.StoppedHolder(t, "redis://"+realserver.SharedRedis(t).Addr(), time.Second)
}

func TestKilledHeadIsPassed(t *testing.T) {
	drivertest.KilledHeadIsPassed(t, "redis://"+realserver.SharedRedis(t).Addr(), 2*time.Second)
}
