package cli

import (
	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/topofile"
	"github.com/lockkeeper/lockkeeper/queue"
)

// policyFlags are the flags of `declare queue` that bound the lives of its
// messages and its own, and say who may consume.
type policyFlags struct {
	maxPriority                         uint8
	messageTTL, expires, keepAge        humanDuration
	maxLength, maxBytes                 int64
	overflow                            string
	singleActive, exclusive, autoDelete bool
	kind                                string
	keepMessages, keepBytes             int64
}

func (p *policyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint8Var(&p.maxPriority, "max-priority", 0, "highest priority that is told apart, up to 9 (default: none)")
	f.Var(&p.messageTTL, "message-ttl", "a message that gets older is dead-lettered, or dropped (default: never)")
	f.Int64Var(&p.maxLength, "max-length", 0, "messages at most (default: no bound)")
	f.Int64Var(&p.maxBytes, "max-bytes", 0, "bytes of bodies at most (default: no bound)")
	f.StringVar(&p.overflow, "overflow", "", "what a full queue does: `reject|drop_head` (default reject)")
	f.BoolVar(&p.singleActive, "single-active", false, "deliver to one consumer at a time; the others stand by")
	f.Var(&p.expires, "expires", "delete the queue after so long without consumers (default: never)")
	f.BoolVar(&p.autoDelete, "auto-delete", false, "delete the queue when its last consumer leaves")
	f.BoolVar(&p.exclusive, "exclusive", false, "for the connection of this command only, and gone with it")
	f.StringVar(&p.kind, "type", "", "`stream`: keep messages, whoever reads them (default: a work queue)")
	f.Var(&p.keepAge, "keep-age", "a stream keeps messages so long (default: no bound)")
	f.Int64Var(&p.keepMessages, "keep-messages", 0, "a stream keeps so many messages (default: no bound)")
	f.Int64Var(&p.keepBytes, "keep-bytes", 0, "a stream keeps bodies of so many bytes (default: no bound)")
}

func (p *policyFlags) fill(q *queue.QueueSpec) {
	q.MaxPriority = p.maxPriority
	q.MessageTTL = topofile.Duration(p.messageTTL).Duration()
	q.Expires = topofile.Duration(p.expires).Duration()
	q.MaxLength, q.MaxBytes = p.maxLength, p.maxBytes
	q.Overflow = queue.Overflow(p.overflow)
	q.SingleActive, q.Exclusive, q.AutoDelete = p.singleActive, p.exclusive, p.autoDelete
	q.Type = queue.QueueType(p.kind)
	q.Retention = queue.Retention{
		Age: topofile.Duration(p.keepAge).Duration(), Messages: p.keepMessages, Bytes: p.keepBytes,
	}
}
