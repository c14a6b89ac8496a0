package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestLocksRandomly drives Locks with clients that do anything at any time,
// over crashes of the engine, and checks what the clients may rely on: no two
// of them believe in leases that exclude each other, tokens grow, waiters are
// granted in order, what they were told is on the disk, and nobody who
// listens is forgotten.
func TestLocksRandomly(t *testing.T) {
	for seed := range uint64(300) {
		m := &lockModel{rng: rand.New(rand.NewPCG(seed, 7)), disk: newLockDisk(), tokens: make(map[string]lease.Token)}
		for _, name := range []string{"plain", "shared", "permits"} {
			for i := range 6 {
				m.clients = append(m.clients, &lockClient{name: name, holder: fmt.Sprint("h", i)})
			}
		}
		m.locks = m.disk.open(m.now)
		for range 400 {
			m.round()
		}
		m.drain()
		if t.Failed() || m.fault != "" {
			t.Fatalf("seed %d at %v: %s", seed, time.Duration(m.now.Mono), m.fault)
		}
	}
}

type lockModel struct {
	rng     *rand.Rand
	now     Time
	disk    *lockDisk
	before  *lockDisk // as it was when the round began
	locks   *Locks
	clients []*lockClient
	tokens  map[string]lease.Token // the largest seen of each name
	fault   string
	blind   bool // replies of this round are lost
}

// lockClient is one holder of one name, as it sees itself.
type lockClient struct {
	name, holder string
	id           int
	mode         lockdriver.Mode
	ticket       *lockdriver.Ticket
	await        *Await // listening
	token        lease.Token
	until        lease.Instant // believes in its lease up to here
	ttl          time.Duration
	revoked      bool
}

func (c *lockClient) holds(now Time) bool { return c.token != 0 && now.Mono <= c.until }

func (m *lockModel) failf(format string, args ...any) {
	if m.fault == "" {
		m.fault = fmt.Sprintf(format, args...)
	}
}

func (m *lockModel) round() {
	m.now.Mono = m.now.Mono.Add(time.Duration(m.rng.IntN(4)) * time.Duration(m.rng.IntN(500)) * time.Millisecond)
	m.before = m.disk.clone()
	m.blind = m.rng.IntN(40) == 0
	m.locks.Tick(m.now, m.disk)
	m.hear()
	for range m.rng.IntN(6) {
		m.act(m.clients[m.rng.IntN(len(m.clients))])
		m.hear()
	}
	m.locks.Write(m.now, m.disk)
	m.hear()
	if m.blind {
		if m.rng.IntN(2) == 0 {
			m.disk = m.before
		}
		m.locks = m.disk.open(m.now)
		for _, c := range m.clients {
			c.await = nil
		}
	}
	m.checkDisk()
}

// act lets a client do something that makes sense to it.
func (m *lockModel) act(c *lockClient) {
	switch n := m.rng.IntN(20); {
	case n == 0:
		m.locks.Cancel(m.now, m.disk, &CancelLock{Request: m.request(c)})
		c.forget()
	case n == 1:
		m.revoke(c)
	case c.holds(m.now) && n < 8:
		m.release(c)
	case c.holds(m.now):
		m.renew(c)
	case c.await != nil && n < 6:
		m.locks.Leave(m.now, m.disk, &Leave{Await: c.await})
	case c.await != nil:
	case c.ticket != nil && n < 16:
		m.listen(c)
	default:
		m.acquire(c)
	}
}

func (c *lockClient) forget() { c.ticket, c.await, c.token, c.revoked = nil, nil, 0, false }

func (m *lockModel) request(c *lockClient) *lockdriver.Request {
	r := &lockdriver.Request{
		Name: c.name, Holder: c.holder, ID: fmt.Sprint(c.id), Ticket: c.ticket,
		Mode: c.mode, TTL: c.ttl, LockDelay: time.Duration(c.id%3) * time.Second,
	}
	if c.name == "permits" {
		r.Permits = 3
	}
	return r
}

func (m *lockModel) acquire(c *lockClient) {
	direct := c.ticket == nil
	if direct && m.rng.IntN(3) > 0 { // otherwise it repeats the last one
		c.id++
		c.ttl = time.Duration(1+m.rng.IntN(5)) * time.Second
		c.mode = lockdriver.Exclusive
		if c.name == "shared" && m.rng.IntN(3) > 0 {
			c.mode = lockdriver.Shared
		}
	}
	if c.ttl == 0 {
		return
	}
	c.token = 0
	cmd := &Acquire{Request: m.request(c), Received: m.now.Mono}
	cmd.Request.Queue = m.rng.IntN(4) > 0
	known := m.locks.Knows(c.name, c.holder)
	m.locks.Acquire(m.now, m.disk, cmd)
	if m.blind {
		return
	}
	switch {
	case cmd.Grant != nil:
		if !known && direct {
			m.checkNobodyListens(c)
		}
		m.granted(c, cmd.Grant)
	case cmd.Ticket != nil:
		c.ticket = cmd.Ticket
	case errors.Is(cmd.Err, lease.ErrInvalid):
		m.failf("%s/%s: %v", c.name, c.holder, cmd.Err)
	}
}

func (m *lockModel) listen(c *lockClient) {
	cmd := &Await{Request: m.request(c), Received: m.now.Mono}
	cmd.Owner = c
	m.locks.Await(m.now, m.disk, cmd)
	if !m.blind {
		c.await = cmd
	}
}

func (m *lockModel) release(c *lockClient) {
	c.ticket = nil
	cmd := &ReleaseLocks{Refs: []lockdriver.Ref{{Name: c.name, Holder: c.holder, Token: c.token}}}
	c.token = 0
	m.locks.Release(m.now, m.disk, cmd)
	if err := cmd.Outcomes[0].Err; err != nil && !m.blind {
		m.failf("%s/%s: a lease that was believed in: %v", c.name, c.holder, err)
	}
}

func (m *lockModel) renew(c *lockClient) {
	ttl := time.Duration(1+m.rng.IntN(8)) * time.Second
	cmd := &RenewLocks{Refs: []lockdriver.Ref{{Name: c.name, Holder: c.holder, Token: c.token, TTL: ttl}}}
	m.locks.Renew(m.now, m.disk, cmd)
	if m.blind {
		return
	}
	switch err := cmd.Outcomes[0].Err; {
	case err == nil && !c.revoked:
		c.until = m.now.Mono.Add(ttl)
	case errors.Is(err, lease.ErrRevoked) && c.revoked:
	default:
		m.failf("%s/%s: renewal of a lease that was believed in: %v", c.name, c.holder, err)
	}
}

// revoke has an operator act on what the client may hold.
func (m *lockModel) revoke(c *lockClient) {
	if c.token == 0 || m.blind {
		return
	}
	cmd := &RevokeLock{Request: &lockdriver.RevokeRequest{Name: c.name, Token: c.token, Break: m.rng.IntN(2) == 0}}
	if cmd.Request.Break {
		c.token = 0
	} else {
		c.revoked = true
	}
	m.locks.Revoke(m.now, m.disk, cmd)
}

// hear delivers the awaits that finished.
func (m *lockModel) hear() {
	for _, cmd := range m.locks.Finished {
		a := cmd.(*Await)
		c := a.Owner.(*lockClient)
		if m.blind || c.await != a {
			continue
		}
		c.await = nil
		if a.Grant != nil {
			if !m.ownedBefore(c, a.Grant) {
				m.checkOrder(c)
			}
			m.granted(c, a.Grant)
		}
	}
	clear(m.locks.Finished)
	m.locks.Finished = m.locks.Finished[:0]
}

// granted notes a grant that a client was told of.
func (m *lockModel) granted(c *lockClient, g *lockdriver.Grant) {
	repeat := g.Token == c.token
	if !repeat && g.Token <= m.tokens[c.name] && !m.ownedBefore(c, g) {
		m.failf("%s/%s: token %d after %d", c.name, c.holder, g.Token, m.tokens[c.name])
	}
	m.tokens[c.name] = max(m.tokens[c.name], g.Token)
	c.ticket, c.token, c.revoked = nil, g.Token, false
	c.until = m.now.Mono.Add(g.TTL)
	holders := 0
	for _, other := range m.clients {
		if other.name != c.name || !other.holds(m.now) {
			continue
		}
		holders++
		if other != c && c.name != "permits" && (other.mode != lockdriver.Shared || c.mode != lockdriver.Shared) {
			m.failf("%s: %s with %d and %s with %d overlap", c.name, c.holder, c.token, other.holder, other.token)
		}
	}
	if c.name == "permits" && holders > 3 {
		m.failf("%d holders of 3 permits", holders)
	}
}

// ownedBefore reports that the grant is an old one of the holder.
func (m *lockModel) ownedBefore(c *lockClient, g *lockdriver.Grant) bool {
	r := m.before.read(c.name)
	return r != nil && slices.ContainsFunc(r.Grants, func(old record.LockGrant) bool {
		return old.Token == g.Token && old.Holder == c.holder
	})
}

// checkOrder looks for somebody who listens at a place before c's.
func (m *lockModel) checkOrder(c *lockClient) {
	if c.ticket == nil {
		return
	}
	at := m.place(c)
	for _, other := range m.clients {
		if other != c && other.name == c.name && other.await != nil && m.place(other) < at {
			m.failf("%s: %s at %d overtook %s at %d", c.name, c.holder, at, other.holder, m.place(other))
		}
	}
}

func (m *lockModel) checkNobodyListens(c *lockClient) {
	for _, other := range m.clients {
		if other.name == c.name && other.await != nil {
			m.failf("%s: %s overtook %s, who waits", c.name, c.holder, other.holder)
		}
	}
}

func (m *lockModel) place(c *lockClient) uint64 {
	seq, err := m.locks.tickets.read(c.name, c.holder, c.ticket.Opaque)
	if err != nil {
		m.failf("%s/%s: %v", c.name, c.holder, err)
	}
	return seq
}

// checkDisk compares what a restart would find with what is believed.
func (m *lockModel) checkDisk() {
	for _, c := range m.clients {
		if !c.holds(m.now) {
			continue
		}
		found := false
		if r := m.disk.read(c.name); r != nil {
			for _, g := range r.Grants {
				found = found || g.Token == c.token && g.Holder == c.holder && g.TTL >= c.until.Sub(m.now.Mono)
			}
		}
		if !found {
			m.failf("%s/%s: the disk does not know of token %d", c.name, c.holder, c.token)
		}
	}
}

// drain lets everybody give up but those who listen: in the end they must
// have been granted, woken by NextWake alone.
func (m *lockModel) drain() {
	for steps := 0; ; steps++ {
		for _, c := range m.clients {
			if c.holds(m.now) {
				m.release(c)
				m.hear()
			}
		}
		m.locks.Write(m.now, m.disk)
		m.hear()
		at, ok := m.locks.NextWake()
		if !ok {
			break
		}
		if steps > 1000 {
			m.failf("it does not come to rest")
			return
		}
		m.now.Mono = max(m.now.Mono, at)
		m.locks.Tick(m.now, m.disk)
		m.hear()
	}
	for _, c := range m.clients {
		if c.await != nil {
			m.failf("%s/%s waits for ever", c.name, c.holder)
		}
	}
	if names, waiters := m.locks.Count(); names+waiters > 0 || len(m.disk.records) > 0 {
		m.failf("%d names, %d waiters and %d records are left", names, waiters, len(m.disk.records))
	}
}
