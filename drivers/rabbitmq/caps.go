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
		FreeRelease:      kind == Classic || !v.less(freeRelease), // classic queues count nothing
		OrderedRelease:   kind == Classic,
		MinLease:         MinLease,
		MaxLease:         MaxLease,
		MaxDelay:         MaxDelay,
		MaxBody:          driver.MaxBody,
	}, nil
}
