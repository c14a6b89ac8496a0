package rabbitmq

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

func TestMain(m *testing.M) {
	if playConsumer() {
		return
	}
	os.Exit(realserver.Run(m))
}

func openURL(t testing.TB, url string) driver.Conn {
	t.Helper()
	c, err := Open(context.Background(), url) // the suite opens one in a cleanup too
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// suiteLease outlasts a stall of a loaded machine.
const suiteLease = 500 * time.Millisecond

// Each type of queue has a record of its own.
func TestQuorum(t *testing.T)  { conforms(t, "prefix=quorum.") }
func TestClassic(t *testing.T) { conforms(t, "prefix=classic.&queue_type=classic") }

func conforms(t *testing.T, parameters string) {
	t.Helper()
	t.Parallel()
	s := realserver.SharedRabbitMQ(t)
	queuetest.Run(t, queuetest.Harness{
		Open: func(t *testing.T) driver.Conn {
			t.Helper()
			return openURL(t, "amqp://"+s.Addr()+"?"+parameters)
		},
		Lease: suiteLease,
	})
}
