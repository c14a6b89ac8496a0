package etcd_test

import (
	"context"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/drivers/etcd"
	"github.com/lockkeeper/lockkeeper/lock"
)

// A URL says all that most programs need.
func Example() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "etcd://10.0.0.1,10.0.0.2,10.0.0.3/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()
	err = locks.Do(ctx, "stock/42", nil, func(_ context.Context, l *lock.Lease) error {
		fmt.Println("token", l.Token())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A client of the program's own, which it configures and closes itself.
func ExampleNew() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	conn, err := etcd.New(ctx, client, &etcd.Options{Prefix: "shop/"})
	if err != nil {
		log.Fatal(err)
	}
	locks := lock.New(conn, nil)
	defer locks.Close()
	if _, err := locks.TryAcquire(ctx, "stock/42", nil); err != nil {
		log.Fatal(err)
	}
}
