package kafka_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/lockkeeper/lockkeeper/drivers/kafka"
	"github.com/lockkeeper/lockkeeper/queue"
)

// A URL says all that most programs need.
func Example() {
	ctx := context.Background()
	queues, err := queue.Open(ctx, "kafka://shop@10.0.0.1,10.0.0.2,10.0.0.3?tls=true&sasl=scram-sha-512&password_file=/run/secrets/kafka")
	if err != nil {
		log.Fatal(err)
	}
	defer queues.Close()
	// Messages of one customer are handled one after the other, those of
	// different customers at once.
	err = queues.Serve(ctx, "payments", func(_ context.Context, d *queue.Delivery) error {
		fmt.Println(d.Message.OrderKey, d.Attempt, string(d.Message.Body))
		return nil
	}, &queue.ServeOptions{Concurrency: 64})
	if err != nil {
		log.Fatal(err)
	}
}

// A client that the program sets up itself.
func ExampleNew() {
	ctx := context.Background()
	conn, err := kafka.New(ctx, []kgo.Opt{
		kgo.SeedBrokers("10.0.0.1:9093"),
		kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13}),
		kgo.SASL(scram.Auth{User: "shop", Pass: "secret"}.AsSha512Mechanism()),
	}, &kafka.Options{Partitions: 12, Prefix: "shop."})
	if err != nil {
		log.Fatal(err)
	}
	queues := queue.New(conn, nil)
	defer queues.Close()
	if _, err := queues.Publish(ctx, queue.Route{Key: "payments"}, &queue.Message{OrderKey: "customer 7", Body: []byte("order 1")}); err != nil {
		log.Fatal(err)
	}
}
