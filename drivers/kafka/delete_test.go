package kafka

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestTopicTakenOverStays: whoever deleted a queue, and comes to delete its topic
// late, leaves it to a queue of that name that was declared meanwhile, with what
// was confirmed there.
func TestTopicTakenOverStays(t *testing.T) {
	t.Parallel()
	url := "kafka://" + realserver.SharedKafka(t).Addr() + "?partitions=1"
	late, c := openURL(t, url), openURL(t, url)
	defer late.Close()
	defer c.Close()
	ctx := t.Context()
	q := "taken over"
	top := driver.Topology{Queues: []driver.Queue{{Name: q}}}
	if _, err := c.Declare(ctx, &top, false); err != nil {
		t.Fatal(err)
	}
	defer forgets(t, c, &top)
	rs, err := c.Publish(ctx, []driver.Publishing{{Route: driver.Route{Key: q}, Message: &driver.Message{Body: []byte("confirmed")}}})
	if err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	late.(*conn).deleteTopics([]string{queueTopic(q)})
	ds, err := c.Receive(ctx, &driver.ReceiveRequest{Queue: q, Consumer: "c", Max: 1, Wait: 20 * time.Second})
	if err != nil || len(ds) != 1 || string(ds[0].Message.Body) != "confirmed" {
		t.Errorf("got %+v, %v", ds, err)
	}
}
