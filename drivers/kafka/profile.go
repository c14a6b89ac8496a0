package kafka

import (
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Profiles returns what queues on Kafka have and assume.
func Profiles() []driver.Profile {
	urls := []string{"kafka://"}
	confirm := "A confirmed message is in the memory of all in-sync replicas, which are two at least where three brokers hold it (min.insync.replicas of the topics that are declared): it outlives the loss of any one of them, and not a power cut of all at once."
	return []driver.Profile{{
		Title: "Kafka, ordered queues", URLs: urls,
		Caps: capabilities(&Options{}, usualReplication),
		Note: "First in, first out holds within a key, and for all messages where a topic has one partition.",
		Assumes: driver.Statement{
			Confirm: confirm,
			Ack:     "Committed at most 200 ms later. After a crash, messages behind one that was not settled come again. A client that was cut off may take its settlement for good while another one has the message.",
			Attempt: "Counted in memory by the client that has the partition. One that gets it begins anew: a message that kills each process that takes it is never dead-lettered.",
			Delay:   "Of retries only: a message that failed is offered again after its delay, exactly. A partition is read in its order, so nothing else can wait.",
		},
	}, {
		Title: "Kafka, work queues", URLs: urls,
		Caps: capabilities(&Options{QueueType: Share}, usualReplication),
		Note: "With queue_type=share in the URL. Share groups: Kafka 4.2 or newer.",
		Assumes: driver.Statement{
			Confirm: confirm,
			Ack:     "As safe as a confirmed message when it returns. The broker refuses one of a message whose lock had run out: it may be another client's.",
			Attempt: "Counted by the brokers, over clients: what is handed back counts, and what a client had that died or was cut off. The last are back when its lock (60 s) or its membership (the brokers' time-out, 45 s by default) has ended.",
			Delay:   "Of retries only, kept by the client that has the message: never early while it lives, and at once when it dies.",
		},
	}}
}
