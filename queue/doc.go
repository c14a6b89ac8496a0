// Package queue publishes messages to, and consumes them from, any backend
// that has a driver.
//
// A [Broker] is opened by URL; the drivers register themselves when their
// package is imported:
//
//	import _ "github.com/lockkeeper/lockkeeper/engine" // mem:// and file://
//
//	b, err := queue.Open(ctx, "file:///var/lib/orders")
//	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "orders"}}})
//	_, err = b.Publish(ctx, queue.Route{Key: "orders"}, &queue.Message{Body: body})
//	err = b.Serve(ctx, "orders", func(ctx context.Context, d *queue.Delivery) error {
//		return handle(ctx, d.Message.Body)
//	}, nil)
//
// Exchange, routing key, binding, queue, message, delivery, ack, nack,
// reject, prefetch, confirm and dead letter mean what they mean in AMQP
// 0-9-1.
//
// # Publishing
//
// A publish that returns without an error is as safe as its [Receipt] says.
// There is one rule for failures. An attempt that was certainly not carried
// out (ErrUnavailable) is made again, with backoff, until the context ends
// or Config.RetryFor has passed. So is one whose outcome cannot be known, if
// every queue that its messages can reach has a dedup window of twice
// Config.RetryFor at least: they keep their IDs, so that none is stored twice
// (a Receipt may then say Duplicate of what the first attempt stored).
// Otherwise it is reported as ErrUnknown: publishing the same message again
// may make a second one. [Broker.Publish] waits for its messages; a
// [Publisher] pipelines.
//
// # Consuming
//
// A [Delivery] is a lease on a message. While it is held nobody else gets
// the message, and it is extended by itself. Its context ends when the lease
// does; [Delivery.Check] asks the clock without waiting for anything; its
// token lets a database refuse a consumer that was overtaken. [Broker.Serve]
// runs a handler for each delivery; a [Consumer] hands them out in batches.
//
// # Order
//
// A queue is first in, first out. Messages with the same OrderKey are never
// in flight at once, so that they are handled one after another in order,
// while other keys go on; this is the backend's doing and asks nothing of
// the consumers.
//
// # Commits
//
// [Broker.Commit] settles deliveries, publishes messages, releases locks and
// records a result by an ID, all of it or nothing: a message is consumed and
// what follows from it is published with no state between the two.
//
// # Typed messages
//
// [Typed] publishes and serves values of a Go type through a [Codec].
//
// # Concurrency
//
// All methods of all types may be called concurrently. Every Close is
// idempotent, and has waited for the goroutines of what it closes when it
// returns.
package queue
