package remote

import (
	"context"
	"testing"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
	"github.com/lockkeeper/lockkeeper/queue/queuetest"
)

func TestQueueConformance(t *testing.T) {
	url := startDaemon(t, nil)
	queuetest.Run(t, queuetest.Harness{Open: func(t *testing.T) queuedriver.Conn {
		c, err := openQueues(context.Background(), url) // the suite opens one in a cleanup too
		if err != nil {
			t.Fatal(err)
		}
		return c
	}})
}
