package queue

import (
	"context"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Declare makes what t names and what is not there yet, all or nothing. What
// exists and is equal is left alone; what exists and differs is ErrConflict;
// a binding or dead letter that names what nobody has is ErrNotFound. t is
// not changed.
func (b *Broker) Declare(ctx context.Context, t *Topology) error {
	_, err := b.declare(ctx, t, false)
	return err
}

// Apply is Declare that says what it did.
func (b *Broker) Apply(ctx context.Context, t *Topology) ([]Change, error) {
	return b.declare(ctx, t, false)
}

// Diff says what Declare would do, and does nothing.
func (b *Broker) Diff(ctx context.Context, t *Topology) ([]Change, error) {
	return b.declare(ctx, t, true)
}

func (b *Broker) declare(ctx context.Context, t *Topology, dryRun bool) ([]Change, error) {
	if t == nil {
		return nil, wrap("declare topology", "", lease.Invalidf("topology", "is missing"))
	}
	own := copyTopology(t)
	if err := own.Validate(&b.caps); err != nil {
		return nil, wrap("declare topology", "", err)
	}
	changes, err := b.conn.Declare(ctx, own, dryRun)
	return changes, wrap("declare topology", "", overdue(ctx, err))
}

// copyTopology copies what Validate fills in. Headers are replaced by it,
// not changed.
func copyTopology(t *Topology) *Topology {
	return &Topology{
		Exchanges: slices.Clone(t.Exchanges),
		Queues:    slices.Clone(t.Queues),
		Bindings:  slices.Clone(t.Bindings),
	}
}

// Topology returns everything declared, sorted by name.
func (b *Broker) Topology(ctx context.Context) (*Topology, error) {
	t, err := b.conn.Topology(ctx)
	return t, wrap("read topology", "", err)
}

// Delete removes one exchange, queue or binding. A queue goes with all its
// messages unless IfEmpty is set, and its bindings go with it.
func (b *Broker) Delete(ctx context.Context, r *DeleteRequest) error {
	if r == nil {
		return wrap("delete", "", lease.Invalidf("request", "is missing"))
	}
	if err := r.Validate(); err != nil {
		return wrap("delete", "", err)
	}
	own := *r
	name := own.Exchange + own.Queue
	if own.Binding != nil {
		binding := *own.Binding
		binding.Args = binding.Args.Normalize()
		own.Binding, name = &binding, binding.Exchange
	}
	return wrap("delete", name, overdue(ctx, b.conn.Delete(ctx, &own)))
}
