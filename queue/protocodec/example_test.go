package protocodec_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/protobuf/types/known/wrapperspb"

	_ "github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/protocodec"
)

func Example() {
	names := protocodec.Typed[*wrapperspb.StringValue]()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	if err := b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "names"}}}); err != nil {
		log.Fatal(err)
	}
	if _, err := names.Publish(ctx, b, queue.Route{Key: "names"}, wrapperspb.String("Ada")); err != nil {
		log.Fatal(err)
	}
	err = names.Serve(ctx, b, "names", func(_ context.Context, v *wrapperspb.StringValue, d *queue.Delivery) error {
		fmt.Println(v.GetValue(), d.Message.Type)
		cancel()
		return nil
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// Ada google.protobuf.StringValue
}
