package driver

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Limits of the portable API. Every backend honours at least these, unless
// its Caps say otherwise.
const (
	MaxName             = 255      // bytes of a queue's or an exchange's name
	MaxKey              = 255      // bytes of a routing key or a binding's key
	MaxID               = 128      // bytes of a message's ID
	MaxOrderKey         = 255      // bytes
	MaxConsumer         = 128      // bytes
	MaxProperty         = 255      // bytes of ContentType, ReplyTo and the like
	MaxHeaders          = 64       // entries, nested ones included
	MaxHeaderBytes      = 16 << 10 // bytes of all keys and values together
	MaxHeaderDepth      = 4        // tables within tables
	MaxBody             = 16 << 20 // bytes
	MaxBatch            = 10_000   // messages in one Publish, deliveries in one Settle
	MaxBatchBytes       = 64 << 20 // bodies in one Publish
	MaxReceive          = 1000     // messages
	MaxAhead            = 100_000  // messages
	MaxReceiveBytes     = 32 << 20 // bytes; one message is always returned
	MaxWait             = 5 * time.Minute
	MaxReason           = 1024 // bytes
	MaxPriority         = 9
	MaxDelay            = 366 * 24 * time.Hour
	MaxDeliveryLimit    = 1_000_000
	MaxDedupWindow      = 31 * 24 * time.Hour
	MinExpires          = time.Second
	MaxRetentionAge     = 10 * 366 * 24 * time.Hour
	MaxQueueLength      = 1 << 50 // of MaxLength, MaxBytes and Retention's counts
	MaxOffsets          = 1000    // consumers of one stream that have saved an offset
	MaxSchedules        = 10_000
	MaxScheduleName     = 100      // bytes: with the tick it is the ID of a message
	MaxCron             = 255      // bytes of an expression, or of a time zone's name
	MaxScheduleBody     = 16 << 10 // bytes
	MaxMissedTicks      = 1000     // of one schedule that are published late
	MaxList             = 1000
	DefaultList         = 100
	MaxPeek             = 1000
	MaxRedrive          = 10_000
	MaxDeclare          = 10_000 // exchanges, queues and bindings in one Declare
	MaxBindingsPerQueue = 1000   // and per exchange that is bound to another
	// MaxBindingsPerExchange bounds the bindings from one exchange.
	MaxBindingsPerExchange = 100_000

	DefaultLease         = 30 * time.Second
	DefaultDeliveryLimit = 20
	DefaultBackoffMin    = time.Second
	DefaultBackoffMax    = 5 * time.Minute
)

// ValidateQueueName returns a *lease.FieldError unless s is 1 to MaxName bytes
// of UTF-8 without control characters.
func ValidateQueueName(field, s string) error { return lease.ValidateText(field, s, 1, MaxName) }

// ValidateCancel checks what is passed to CancelScheduled.
func ValidateCancel(queue, id string) error {
	if err := ValidateQueueName("queue", queue); err != nil {
		return err
	}
	return lease.ValidateText("id", id, 1, MaxID)
}

// ValidateConsumer does the same for consumers' ids, up to MaxConsumer bytes.
func ValidateConsumer(field, s string) error { return lease.ValidateText(field, s, 1, MaxConsumer) }

func validDuration(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return lease.Invalidf(field, "must be %v to %v, is %v", least, most, d)
	}
	return nil
}
