// Package schemes finds a driver by the scheme of a URL. Packages lock and
// queue have a Registry each, which drivers fill when they are initialized.
package schemes

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Registry maps schemes to what opens their URLs. The zero value is empty.
// All methods may be called concurrently.
type Registry[Opener any] struct {
	mu       sync.Mutex
	byScheme map[string]Opener
}

// Add registers open. It panics if the scheme is taken: two drivers under one
// name are a mistake of the program.
func (r *Registry[Opener]) Add(scheme string, open Opener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.byScheme[scheme]; taken {
		panic("a driver was registered twice for " + scheme)
	}
	if r.byScheme == nil {
		r.byScheme = map[string]Opener{}
	}
	r.byScheme[scheme] = open
}

// Names returns the registered schemes, sorted.
func (r *Registry[Opener]) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.byScheme))
}

// Find returns what opens the URL. A URL without a scheme, or with one that
// nobody registered, is a *lease.FieldError.
func (r *Registry[Opener]) Find(url string) (open Opener, err error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok || scheme == "" {
		return open, lease.Invalidf("url", "must begin with a scheme and ://, such as file:///var/lib/lockkeeper")
	}
	r.mu.Lock()
	open, ok = r.byScheme[scheme]
	r.mu.Unlock()
	if ok {
		return open, nil
	}
	known := "none: import a driver's package"
	if names := r.Names(); len(names) > 0 {
		known = strings.Join(names, ", ")
	}
	return open, lease.Invalidf("url", "has the unknown scheme %q (known: %s)", scheme, known)
}
