package store

import "github.com/lockkeeper/lockkeeper/engine/internal/machine"

var (
	_ machine.Changes = (*Batch)(nil)
	_ machine.View    = (*Store)(nil)
)
