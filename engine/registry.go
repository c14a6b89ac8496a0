package engine

import (
	"fmt"
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/lease"
)

// shared are the engines that this process has open by name, so that
// lock.Open and queue.Open on one URL have one store between them.
var shared = registry{entries: make(map[string]*entry)}

type registry struct {
	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one shared engine. Whoever holds its mu is opening or closing it.
type entry struct {
	users int // under registry.mu: who will look at the entry

	mu   sync.Mutex
	core *core
	refs int
}

// open returns the engine for a target, started if it was not open.
func (r *registry) open(t *target, o *Options) (*core, error) {
	if t.key == "" {
		return start(t, o)
	}
	r.mu.Lock()
	e := r.entries[t.key]
	if e == nil {
		e = new(entry)
		r.entries[t.key] = e
	}
	e.users++
	r.mu.Unlock()

	c, err := e.open(t, o)
	if err != nil {
		r.forget(t.key, e)
	}
	return c, err
}

func (e *entry) open(t *target, o *Options) (*core, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.core == nil {
		c, err := start(t, o)
		if err != nil {
			return nil, err
		}
		e.core = c
	} else if err := e.core.err(); err != nil {
		return nil, fmt.Errorf("%s is open in this process and has failed; close it everywhere first: %w", t.key, err)
	} else if e.core.params != t.params {
		return nil, fmt.Errorf("%s is open in this process with min_ttl=%v and token_base=%d: %w",
			t.key, e.core.params.minTTL, e.core.params.tokenBase, lease.ErrConflict)
	}
	e.refs++
	return e.core, nil
}

// close gives one reference back; the last one closes the engine.
func (r *registry) close(t *target, c *core) error {
	if t.key == "" {
		return c.close()
	}
	r.mu.Lock()
	e := r.entries[t.key]
	r.mu.Unlock()

	e.mu.Lock()
	var err error
	if e.refs--; e.refs == 0 {
		err = e.core.close()
		e.core = nil
	}
	e.mu.Unlock()
	r.forget(t.key, e)
	return err
}

// forget drops an entry that nobody looks at any more.
func (r *registry) forget(key string, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(r.entries, key)
	}
}

// start opens the store of a target and its engine.
func start(t *target, o *Options) (*core, error) {
	s, err := store.Open(store.Options{Dir: t.dir, Memory: t.memory, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return startCore(s, t.params, t.memory, o)
}
