package queue_test

import (
	"context"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Have a message published every night, by whoever runs the store.
func ExampleBroker_PutSchedule() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	if err := b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "reports"}}}); err != nil {
		panic(err)
	}
	err = b.PutSchedule(ctx, &queue.Schedule{
		Name: "nightly", Cron: "30 2 * * *", TimeZone: "Europe/Berlin",
		Route:   queue.Route{Key: "reports"},
		Message: &queue.Message{Body: []byte("make the report")},
	})
	if err != nil {
		panic(err)
	}
	s, err := b.Schedule(ctx, "nightly")
	if err != nil {
		panic(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Next.In(berlin).Format("15:04"), s.Missed)
	// Output: 02:30 all
}
