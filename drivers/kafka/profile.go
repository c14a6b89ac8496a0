package kafka

import (
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Profiles returns what queues on Kafka have and assume.
func Profiles() []driver.Profile {
	return []driver.Profile{{
		Title: "Kafka", URLs: []string{"kafka://"},
		Caps: capabilities(&Options{}, usualReplication),
		Note: "First in, first out holds within a key, and for all messages where a topic has one partition.",
		Assumes: driver.Statement{
			Confirm: "A confirmed message is in the memory of all in-sync replicas, which are two at least where three brokers hold it (min.insync.replicas of the topics that are declared): it outlives the loss of any one of them, and not a power cut of all at once.",
			Ack:     "Committed at most 200 ms later. After a crash, messages behind one that was not settled come again. A client that was cut off may take its settlement for good while another one has the message.",
			Attempt: "Counted in memory by the client that has the partition. One that gets it begins anew: a message that kills each process that takes it is never dead-lettered.",
			Delay:   "Of retries only: a message that failed is offered again after its delay, exactly. A partition is read in its order, so nothing else can wait.",
		},
	}}
}
