package redis_test

import (
	"context"
	"fmt"
	"log"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/drivers/redis"
	"github.com/lockkeeper/lockkeeper/lock"
)

// A URL says all that most programs need.
func Example() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/main/0?wait_replicas=1")
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
	client := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:6379", MaxRetries: -1})
	defer client.Close()
	conn, err := redis.New(ctx, client, &redis.Options{Prefix: "shop:"})
	if err != nil {
		log.Fatal(err)
	}
	locks := lock.New(conn, nil)
	defer locks.Close()
	if _, err := locks.TryAcquire(ctx, "stock/42", nil); err != nil {
		log.Fatal(err)
	}
}
