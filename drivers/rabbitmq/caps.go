package rabbitmq

import (
	"fmt"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// version of a server: major and minor.
type version struct{ major, minor int }

// Versions from which on something is so.
var (
	oldest      = version{3, 10} // quorum queues with TTLs and safe dead letters
	freeRelease = version{4, 3}  // basic.nack does not count as an attempt
)

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// serverVersion reads what a server says about itself.
func serverVersion(props amqp.Table) (version, error) {
	product, _ := props["product"].(string)
	text, _ := props["version"].(string)
	parts := strings.Split(text, ".")
	if product != "RabbitMQ" || len(parts) < 2 {
		return version{}, fmt.Errorf("what answers is %q %q, not RabbitMQ: %w", product, text, lease.ErrUnsupported)
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return version{}, fmt.Errorf("RabbitMQ says that its version is %q: %w", text, lease.ErrUnsupported)
	}
	v := version{major, minor}
	if v.less(oldest) {
		return v, fmt.Errorf("RabbitMQ %s is too old, %d.%d is needed: %w", text, oldest.major, oldest.minor, lease.ErrUnsupported)
	}
	return v, nil
}

func capabilities(props amqp.Table, kind QueueType) (driver.Caps, error) {
	v, err := serverVersion(props)
	if err != nil {
		return driver.Caps{}, err
	}
	return capsOf(v, kind), nil
}

// orderNote says what is kept in order.
const orderNote = "Only a queue with a single active consumer keeps its order when a connection or a node is lost; a failed attempt comes again behind what was read ahead. " +
	"Policies that RabbitMQ has with another meaning are refused, and the error says which."

// Profiles returns what queues on RabbitMQ have and assume.
func Profiles() []driver.Profile {
	urls := []string{"amqp://", "amqps://"}
	quorum := driver.Statement{
		Confirm: "A confirmed message is on the disks of most of the nodes that have the queue, and outlives the loss of the others. What is not confirmed is sent again: it can be there twice.",
		Ack:     "AMQP confirms none: what was acked in the last moment before a connection is lost comes again. An ack of a delivery that went on to somebody else over the same connection is not noticed.",
		Attempt: "Failed attempts, leases that ran out and what a lost connection had are counted; before RabbitMQ 4.3 so is what is handed back.",
		Delay:   "Late by a quarter at most, never early, and only where the message names its queue. It cannot be cancelled.",
	}
	classic := quorum
	classic.Confirm = "A confirmed message is on the disk of the one node that has the queue. What is not confirmed is sent again: it can be there twice."
	classic.Attempt = "Failed attempts and leases that ran out are counted; what is handed back, and what a lost connection had, is not."
	return []driver.Profile{
		{
			Title: "RabbitMQ, quorum queues", URLs: urls, Caps: capsOf(oldest, Quorum), Assumes: quorum,
			Note: orderNote + " From RabbitMQ 4.3 on a release is no attempt.",
		},
		{
			Title: "RabbitMQ, classic queues", URLs: urls, Caps: capsOf(oldest, Classic), Assumes: classic,
			Note: orderNote + " With queue_type=classic in the URL.",
		},
	}
}

func capsOf(v version, kind QueueType) driver.Caps {
	return driver.Caps{
		Backend:          "rabbitmq",
		Durability:       driver.Synced,
		Delay:            true,
		DelayedNack:      true,
		Extend:           true,
		DeadLetter:       true,
		HeadersRoute:     true,
		Redrive:          true,
		Mandatory:        true,
		Purge:            true,
		FIFO:             true,
		ExchangeBindings: true,
		Alternate:        true,
		SingleActive:     true,
		Priorities:       kind == Classic,                         // quorum queues of RabbitMQ 3 have none, those of 4.0 two, and those of 4.3 enough
		FreeRelease:      kind == Classic || !v.less(freeRelease), // classic queues count nothing
		OrderedRelease:   kind == Classic,
		MinLease:         MinLease,
		MaxLease:         MaxLease,
		MaxDelay:         MaxDelay,
		MaxBody:          driver.MaxBody,
	}
}
