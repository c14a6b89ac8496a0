package migrate

import (
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// claim is who holds what: a holder holds a name once.
type claim struct{ name, holder string }

// pair is one grant of both backends.
type pair struct {
	old, new lease.Token
	handed   Tokens
	id       string // of the request
	released bool   // on the new backend, and not known on the old one
	until    time.Time
}

// token returns the one that was handed out.
func (p *pair) token() lease.Token {
	if p.handed == TokensOld {
		return p.old
	}
	return p.new
}

// pairs remembers the grants made here. What it does not know, as after a
// restart of a daemon, is looked for on the backends.
type pairs struct {
	mu    sync.Mutex
	m     map[claim]pair
	sweep int // at this size those whose time is over are dropped
}

const leastSweep = 1024

func newPairs() pairs { return pairs{m: map[claim]pair{}, sweep: leastSweep} }

// handed returns whose tokens were handed out with this very grant before.
func (s *pairs) handed(r *driver.Request, old, next *driver.Grant) (Tokens, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var handed Tokens
	for i := range r.Names() {
		p, ok := s.m[claim{r.NameAt(i), r.Holder}]
		if !ok || p.old != old.TokenAt(i) || p.new != next.TokenAt(i) || p.released {
			return "", false
		}
		handed = p.handed
	}
	return handed, true
}

func (s *pairs) add(r *driver.Request, old, next *driver.Grant, handed Tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.m) >= s.sweep {
		s.drop()
	}
	until := keepUntil(r.TTL)
	for i := range r.Names() {
		s.m[claim{r.NameAt(i), r.Holder}] = pair{old: old.TokenAt(i), new: next.TokenAt(i), handed: handed, id: r.ID, until: until}
	}
}

// keepUntil is when a pair of that TTL is of no use any more.
func keepUntil(ttl time.Duration) time.Time { return time.Now().Add(2*ttl + time.Minute) }

// drop forgets what has run out long ago.
func (s *pairs) drop() {
	now := time.Now()
	for k, p := range s.m {
		if now.After(p.until) {
			delete(s.m, k)
		}
	}
	s.sweep = max(leastSweep, 2*len(s.m))
}

// forget drops what a cancelled request was granted.
func (s *pairs) forget(r *driver.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.Names() {
		k := claim{r.NameAt(i), r.Holder}
		if p, ok := s.m[k]; ok && p.id == r.ID {
			delete(s.m, k)
		}
	}
}

// find returns the pair for a Ref.
func (s *pairs) find(r *driver.Ref) (pair, bool) {
	p, ok := s.of(r.Name, r.Holder)
	return p, ok && p.token() == r.Token
}

// of returns the pair of a holder.
func (s *pairs) of(name, holder string) (pair, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.m[claim{name, holder}]
	return p, ok
}

// put replaces a pair, or adds what was found on the backends. The pair of a
// later grant stays.
func (s *pairs) put(name, holder string, p pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := claim{name, holder}
	if now, ok := s.m[k]; !ok || now.old == p.old && now.new == p.new {
		s.m[k] = p
	}
}

// end forgets a pair, unless there is another one by now.
func (s *pairs) end(name, holder string, p *pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := claim{name, holder}
	if now, ok := s.m[k]; ok && now.old == p.old && now.new == p.new {
		delete(s.m, k)
	}
}
