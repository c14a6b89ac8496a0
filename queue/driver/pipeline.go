package driver

import "context"

// Pipeliner is a Conn that takes the next batch while those before it are not
// confirmed, and keeps their order.
type Pipeliner interface {
	// BeginPublish is the first half of Publish: it returns when the batch has
	// its place behind all that have begun before, and wait is the other half,
	// to be called once. An error of either is one of Publish. Bodies and
	// headers may be used again when wait has returned. ctx bounds both.
	BeginPublish(ctx context.Context, ps []Publishing) (wait func() ([]Receipt, error), err error)
}
