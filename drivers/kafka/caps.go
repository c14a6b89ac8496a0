package kafka

import (
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// usualReplication is how many brokers hold a topic where there are enough.
const usualReplication = 3

// capabilities says what queues have whose topics are held by so many brokers.
// A broker confirms what is in the memory of all that are in sync, which are more
// than half of them (inSync): none has to have written it to its disk.
func capabilities(o *Options, replication int) driver.Caps {
	durability := driver.Written
	if replication > 1 {
		durability = driver.Replicated
	}
	caps := driver.Caps{
		Backend:        "kafka",
		Durability:     durability,
		OrderKey:       true,
		DelayedNack:    true,
		Extend:         true,
		DeadLetter:     true,
		HeadersRoute:   true,
		Redrive:        true,
		Mandatory:      true,
		FIFO:           o.Partitions == 1,
		FreeRelease:    true,
		OrderedRelease: true,
		MinLease:       MinLease,
		MaxLease:       MaxLease,
		MaxDelay:       MaxDelay,
		MaxBody:        MaxBody,
	}
	if o.QueueType == Share {
		caps.OrderKey, caps.FIFO, caps.FreeRelease, caps.OrderedRelease = false, false, false, false
		caps.DeliveryFence, caps.ConfirmedAck = true, true
		caps.MaxLease = MaxShareLease
	}
	return caps
}
