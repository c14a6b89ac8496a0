package kafka

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// maxTopic is how long Kafka lets the name of a topic be; ours leave room for
// endings.
const (
	maxTopic = 249
	maxPlain = maxTopic - len(queueEnding)
)

// queueEnding tells the topic of a queue from that of an exchange.
const queueEnding = ".queue"

// legalTopic reports whether Kafka takes the name, but for its length.
func legalTopic(name string) bool {
	return name != "" && name != "." && name != ".." && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// topicName is the name itself where Kafka takes it. Otherwise as much of it as
// Kafka takes, and a digest of the whole.
func topicName(name string) string {
	if len(name) <= maxPlain && legalTopic(name) && !strings.HasPrefix(name, "__") {
		return name
	}
	const digest = 16 // of 64 digits
	sum := sha256.Sum256([]byte(name))
	var b strings.Builder
	for _, r := range name {
		if b.Len() == maxPlain-digest-1 {
			break
		}
		if r < 0x80 && legalTopic("x"+string(r)) && (r != '_' || b.Len() > 0) {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	return b.String() + "-" + hex.EncodeToString(sum[:])[:digest]
}

// exchangeTopic is where an exchange's messages are.
func exchangeTopic(name string) string { return topicName(name) }

// queueTopic is where those are that were sent to a queue itself.
func queueTopic(name string) string { return topicName(name) + queueEnding }

// groupName is the group of a queue. born tells a queue from an earlier one of
// its name, whose commits are not its own.
func groupName(queue string, born uint64) string {
	return topicName(queue) + "." + strconv.FormatUint(born, 10)
}

// recordTopic is where the topology is.
func (o *Options) recordTopic() string { return o.Prefix + "topology" }
