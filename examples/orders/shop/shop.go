// Package shop is three services that work on orders through lockkeeper:
//
//	customer -> Orders -> order.placed -> Payment -> order.paid -> Inventory
//	               ^                                                  |
//	               +---------- order.shipped, order.refused <---------+
//
// It shows what makes such a chain safe. A message is acked only after the
// service has done its work and the next message is confirmed, so nothing is
// lost; then anything may come twice, so each step can be repeated: messages
// are deduplicated by an id made of the order's, a charge and a taking from
// stock are remembered by the order's id. The stock row, which is read,
// changed and written by any of several replicas, is guarded by a lock; its
// fencing token goes with each write, so that the database can refuse one from
// a replica that was paused and overtaken.
//
// Read in this order: this file, orders.go, payment.go, inventory.go, then
// database.go.
package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Order is what a customer asks for, and the body of every message.
type Order struct {
	ID       string `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"cents"` // for all of it
}

// What happens to an order; the routing keys of the messages.
const (
	Placed  = "order.placed"
	Paid    = "order.paid"
	Shipped = "order.shipped"
	Refused = "order.refused" // not enough in stock; the money goes back
)

// Names on the broker.
const (
	exchange       = "shop"
	paymentQueue   = "shop.payment"
	inventoryQueue = "shop.inventory"
	ordersQueue    = "shop.orders"
	// DeadQueue gets what could not be handled in many attempts. A person
	// looks at it: lockkeeper peek shop.dead.
	DeadQueue = "shop.dead"
)

// Topology is what the services declare. Each declares all of it when it
// starts: that is idempotent, and then none has to be started first.
func Topology() *queue.Topology {
	work := func(name string) queue.QueueSpec {
		return queue.QueueSpec{
			Name:          name,
			Lease:         5 * time.Second, // a replica that died keeps a message so long
			DeliveryLimit: 100,
			DeadLetter:    &queue.Route{Key: DeadQueue},
			Backoff:       queue.Backoff{Min: 50 * time.Millisecond, Max: time.Second},
			DedupWindow:   time.Hour,
		}
	}
	return &queue.Topology{
		Exchanges: []queue.Exchange{{Name: exchange, Kind: queue.Topic}},
		Queues:    []queue.QueueSpec{work(paymentQueue), work(inventoryQueue), work(ordersQueue), {Name: DeadQueue}},
		Bindings: []queue.Binding{
			{Exchange: exchange, Queue: paymentQueue, Key: Placed},
			{Exchange: exchange, Queue: inventoryQueue, Key: Paid},
			{Exchange: exchange, Queue: ordersQueue, Key: Shipped},
			{Exchange: exchange, Queue: ordersQueue, Key: Refused},
		},
	}
}

// publish says that something happened to an order, and returns when that is
// durable. The same event of the same order has the same id, so that the
// queues take it once, however often a service repeats itself.
func publish(ctx context.Context, queues *queue.Broker, event string, o *Order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = queues.Publish(ctx, queue.Route{Exchange: exchange, Key: event}, &queue.Message{
		ID: o.ID + "/" + event, ContentType: "application/json", Body: body,
	})
	return err
}

// order reads the body of a delivery. One that cannot be read will not get
// better by repeating: it is dead-lettered at once.
func order(d *queue.Delivery) (*Order, error) {
	var o Order
	if err := json.Unmarshal(d.Message.Body, &o); err != nil {
		return nil, queue.Reject(fmt.Errorf("not an order: %w", err))
	}
	if o.ID == "" || o.Item == "" || o.Quantity < 1 || o.Cents < 0 {
		return nil, queue.Reject(fmt.Errorf("not a possible order: %+v", o))
	}
	return &o, nil
}
