package engine

import (
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// QueueProfiles returns what queues on the engine have and assume.
func QueueProfiles() []driver.Profile {
	disk := driver.Profile{
		Title: "Engine on disk", URLs: []string{"file://"}, Caps: queueCaps(false),
		Assumes: driver.Statement{
			Confirm: "A confirmed message is synced to the disk of the one node. It outlives every crash of the process and of the machine, and not the loss of the disk.",
			Ack:     "An ack that returned is synced as well. One by a consumer that was overtaken is refused.",
			Attempt: "Each failed attempt and each lease that ran out is counted, also over a restart; what is handed back is not.",
			Delay:   "Exact, by the server's clock, and never early. What waits can be cancelled.",
		},
	}
	memory := disk
	memory.Title, memory.URLs, memory.Caps = "Engine in memory", []string{"mem://"}, queueCaps(true)
	memory.Assumes.Confirm = "A confirmed message is in memory, and gone when the process ends."
	memory.Assumes.Ack = "An ack that returned is in memory. One by a consumer that was overtaken is refused."
	memory.Assumes.Attempt = "Each failed attempt and each lease that ran out is counted; what is handed back is not."
	return []driver.Profile{disk, memory}
}

// queueCaps is what all queues on the engine have.
func queueCaps(memory bool) driver.Caps {
	return driver.Caps{
		Backend:       "engine",
		Durability:    durabilityOf(memory),
		DeliveryFence: true,
		Dedup:         true,
		OrderKey:      true,
		Delay:         true,
		DelayedNack:   true,
		Extend:        true,
		DeadLetter:    true,
		HeadersRoute:  true,
		Peek:          true,
		Redrive:       true,
		Mandatory:     true,
		Purge:         true,
		Stats:         true,
		FIFO:          true,

		ExchangeBindings: true,
		Alternate:        true,
		QueueTTL:         true,
		SingleActive:     true,
		Exclusive:        true,
		AutoDelete:       true,
		CancelScheduled:  true,
		Commit:           true,
		Priorities:       true,
		Streams:          true,
		Schedules:        true,
		MaxLength:        true,
		MessageTTL:       true,
		FairDispatch:     true,
		Numbered:         true,
		OutlivesConn:     true,
		ConfirmedAck:     true,
		FreeRelease:      true,
		OrderedRelease:   true,
		CountsQueues:     true,
		IfEmpty:          true,

		MinLease: DefaultMinTTL,
		MaxLease: MaxTTL,
		MaxBody:  driver.MaxBody,
	}
}

// durability of a confirm.
func (c *core) durability() driver.Durability { return durabilityOf(c.memory) }

func durabilityOf(memory bool) driver.Durability {
	if memory {
		return driver.Memory
	}
	return driver.Synced
}
