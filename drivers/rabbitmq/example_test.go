package rabbitmq_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/drivers/rabbitmq"
	"github.com/lockkeeper/lockkeeper/queue"
)

// A URL says all that most programs need.
func Example() {
	ctx := context.Background()
	queues, err := queue.Open(ctx, "amqp://shop@10.0.0.1,10.0.0.2,10.0.0.3/shop?password_file=/run/secrets/rabbitmq")
	if err != nil {
		log.Fatal(err)
	}
	defer queues.Close()
	err = queues.Serve(ctx, "payments", func(_ context.Context, d *queue.Delivery) error {
		fmt.Println(d.Attempt, string(d.Message.Body))
		return nil
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
}

// Connections that the program makes itself: here by a socket.
func ExampleNew() {
	ctx := context.Background()
	dial := func(ctx context.Context, _ string) (*amqp.Connection, error) {
		return amqp.DialConfig("amqp://guest:guest@localhost/", amqp.Config{
			Heartbeat: 5 * time.Second,
			Dial: func(string, string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", "/run/rabbitmq.sock")
			},
		})
	}
	conn, err := rabbitmq.New(ctx, dial, &rabbitmq.Options{Prefix: "shop."})
	if err != nil {
		log.Fatal(err)
	}
	queues := queue.New(conn, nil)
	defer queues.Close()
	if _, err := queues.Publish(ctx, queue.Route{Key: "payments"}, &queue.Message{Body: []byte("order 1")}); err != nil {
		log.Fatal(err)
	}
}
