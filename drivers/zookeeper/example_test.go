package zookeeper_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/drivers/zookeeper"
	"github.com/lockkeeper/lockkeeper/lock"
)

// A URL says all that most programs need.
func Example() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "zk://localhost:2181,localhost:2182/shop?session=10s")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()
	err = locks.Do(ctx, "invoices", nil, func(ctx context.Context, le *lock.Lease) error {
		fmt.Println("token", le.Token())
		return ctx.Err()
	})
	if err != nil {
		log.Print(err)
	}
}

// A program that has a client already shares it.
func ExampleNew() {
	ctx := context.Background()
	client, _, err := zk.Connect([]string{"localhost:2181"}, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	conn, err := zookeeper.New(ctx, client, &zookeeper.Options{Session: 10 * time.Second})
	if err != nil {
		log.Print(err)
		return
	}
	locks := lock.New(conn, nil)
	defer locks.Close()
	fmt.Println(locks.Caps().Clock)
}
