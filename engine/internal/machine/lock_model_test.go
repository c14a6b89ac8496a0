package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	cuts := 0
	for seed := range uint64(300) {
		m := &lockModel{rng: rand.New(rand.NewPCG(seed, 7)), disk: newLockDisk(), tokens: make(map[string]lease.Token)}
		for _, name := range []string{"plain", "shared", "permits"} {
			for i := range 6 {
				m.clients = append(m.clients, &lockClient{names: []string{name}, holder: fmt.Sprint("h", i)})
			}
		}
		for i := range 8 {
			m.clients = append(m.clients, &lockClient{names: m.someNames(), holder: fmt.Sprint("m", i), several: true})
		}
		m.open()
		for range 400 {
			m.round()
		}
		m.drain()
		if t.Failed() || m.fault != "" {
			t.Fatalf("seed %d at %v: %s", seed, time.Duration(m.now.Mono), m.fault)
		}
		cuts += m.cuts
	}
	if cuts < 300 {
		t.Errorf("only %d deadlocks came about", cuts)
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
	cuts    int  // deadlocks
	blind   bool // replies of this round are lost
	watch   watchModel
}

// lockClient is one holder of its names, as it sees itself.
type lockClient struct {
	names   []string
	holder  string
	several bool // asks for other names each time
	within  []string
	id      int
	mode    lockdriver.Mode
	ticket  *lockdriver.Ticket
	await   *Await        // listening
	tokens  []lease.Token // one for each name; nil: holds nothing
	until   lease.Instant // believes in its lease up to here
	ttl     time.Duration
	revoked bool
}

func (c *lockClient) String() string { return strings.Join(c.names, ",") + "/" + c.holder }

func (c *lockClient) holds(now Time) bool { return c.tokens != nil && now.Mono <= c.until }

// meets reports whether the two have a name in common.
func (c *lockClient) meets(other *lockClient) bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return slices.Contains(other.names, name) })
}

// counts reports whether its names are semaphores.
func (c *lockClient) counts() bool {
	return slices.Contains([]string{"permits", "seats", "slots"}, c.names[0])
}

// refs name the client's grants.
func (c *lockClient) refs(ttl time.Duration) []lockdriver.Ref {
	var refs []lockdriver.Ref
	for i, t := range c.tokens {
		refs = append(refs, lockdriver.Ref{Name: c.names[i], Holder: c.holder, Token: t, TTL: ttl})
	}
	return refs
}

// someNames returns one to three names, in order.
func (m *lockModel) someNames() []string {
	all := []string{"a", "b", "c", "plain", "shared"}
	if m.rng.IntN(5) == 0 {
		all = []string{"permits", "seats", "slots"}
	}
	m.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return slices.Sorted(slices.Values(all[:1+m.rng.IntN(3)]))
}

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
	if m.rng.IntN(3) > 0 {
		m.watch.listen(m.locks)
	}
	m.locks.Write(m.now, m.disk)
	m.hear()
	m.watch.check(m.now, m.locks)
	if m.watch.fault != "" {
		m.failf("watch: %s", m.watch.fault)
	}
	if m.blind {
		if m.rng.IntN(2) == 0 {
			m.disk = m.before
		}
		m.open()
		m.watch = watchModel{}
		for _, c := range m.clients {
			c.await = nil
		}
	}
	m.checkDisk()
	m.settle()
	m.checkCircles()
}

// settle gives rounds of their own to what did not fit into one.
func (m *lockModel) settle() {
	for {
		if at, ok := m.locks.NextWake(); !ok || at > 0 || len(m.locks.suspects.waiters) == 0 {
			return
		}
		m.locks.Tick(m.now, m.disk)
		m.locks.Write(m.now, m.disk)
		m.hear()
	}
}

// open reads the disk; now and then the machine looks for circles a few steps
// at a time.
func (m *lockModel) open() {
	m.locks = m.disk.open(m.now)
	if m.rng.IntN(2) == 0 {
		m.locks.suspects.maxSteps = 2
	}
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
	case c.holds(m.now) && n < 10:
		m.setValue(c)
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

func (c *lockClient) forget() { c.ticket, c.await, c.tokens, c.revoked = nil, nil, nil, false }

func (m *lockModel) request(c *lockClient) *lockdriver.Request {
	r := &lockdriver.Request{
		Name: c.names[0], More: c.names[1:], Holder: c.holder, ID: fmt.Sprint(c.id), Ticket: c.ticket, Within: c.within,
		Mode: c.mode, TTL: c.ttl, LockDelay: time.Duration(c.id%3) * time.Second,
	}
	if c.counts() {
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
		if c.names[0] == "shared" && m.rng.IntN(3) > 0 || c.several && m.rng.IntN(4) == 0 {
			c.mode = lockdriver.Shared
		}
		if c.several && !c.holds(m.now) {
			c.names = m.someNames()
		}
		if c.counts() {
			c.mode = lockdriver.Exclusive
		}
		c.within = nil
		for m.rng.IntN(2) == 0 && len(c.within) < 3 {
			if other := m.clients[m.rng.IntN(len(m.clients))]; other.holds(m.now) {
				c.within = append(c.within, other.holder)
			}
		}
	}
	if c.ttl == 0 {
		return
	}
	c.tokens = nil
	cmd := &Acquire{Request: m.request(c), Received: m.now.Mono}
	cmd.Request.Queue = m.rng.IntN(4) > 0
	cmd.Request.Resume = m.rng.IntN(6) == 0
	known := slices.ContainsFunc(c.names, func(name string) bool { return m.locks.Knows(name, c.holder) })
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
		m.failf("%v: %v", c, cmd.Err)
	case errors.Is(cmd.Err, lockdriver.ErrDeadlock):
		m.cut(c, cmd.Err)
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
	cmd := &ReleaseLocks{Refs: c.refs(0)}
	c.tokens = nil
	m.locks.Release(m.now, m.disk, cmd)
	for _, out := range cmd.Outcomes {
		if out.Err != nil && !m.blind {
			m.failf("%v: a lease that was believed in: %v", c, out.Err)
		}
	}
}

func (m *lockModel) renew(c *lockClient) {
	ttl := time.Duration(1+m.rng.IntN(8)) * time.Second
	cmd := &RenewLocks{Refs: c.refs(ttl)}
	m.locks.Renew(m.now, m.disk, cmd)
	if m.blind {
		return
	}
	for _, out := range cmd.Outcomes {
		switch err := out.Err; {
		case err == nil && !c.revoked:
			c.until = m.now.Mono.Add(ttl)
		case errors.Is(err, lease.ErrRevoked) && c.revoked:
		default:
			m.failf("%v: renewal of a lease that was believed in: %v", c, err)
		}
	}
}

// setValue replaces the value of a grant that the client believes in.
func (m *lockModel) setValue(c *lockClient) {
	cmd := &SetLockValue{Ref: c.refs(0)[0], Value: []byte{byte(m.rng.IntN(3) + 1)}}
	m.locks.SetValue(m.now, m.disk, cmd)
	if cmd.Err != nil && !m.blind {
		m.failf("%v: the value of a lease that was believed in: %v", c, cmd.Err)
	}
}

// revoke has an operator act on what the client may hold.
func (m *lockModel) revoke(c *lockClient) {
	if c.tokens == nil || m.blind {
		return
	}
	brk := m.rng.IntN(2) == 0
	for i, name := range c.names {
		m.locks.Revoke(m.now, m.disk, &RevokeLock{Request: &lockdriver.RevokeRequest{Name: name, Token: c.tokens[i], Break: brk}})
		if brk && m.rng.IntN(2) == 0 {
			break // what is left of the set runs out
		}
	}
	if brk {
		c.tokens = nil
	} else {
		c.revoked = true
	}
}

// hear delivers the awaits that finished.
func (m *lockModel) hear() {
	for _, cmd := range m.locks.Finished {
		if next, ok := cmd.(*NextEvents); ok {
			m.watch.apply(next)
			continue
		}
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
		if errors.Is(a.Err, lockdriver.ErrDeadlock) {
			m.cut(c, a.Err)
		}
	}
	clear(m.locks.Finished)
	m.locks.Finished = m.locks.Finished[:0]
}

// granted notes a grant that a client was told of.
func (m *lockModel) granted(c *lockClient, g *lockdriver.Grant) {
	old := c.tokens
	c.tokens = append([]lease.Token{g.Token}, g.More...)
	if len(c.tokens) != len(c.names) {
		m.failf("%v: %d tokens", c, len(c.tokens))
	}
	for i, name := range c.names {
		if t := c.tokens[i]; t <= m.tokens[name] && !slices.Contains(old, t) && !m.ownedBefore(c, g) {
			m.failf("%v: token %d after %d", c, t, m.tokens[name])
		}
		m.tokens[name] = max(m.tokens[name], c.tokens[i])
	}
	c.ticket, c.revoked = nil, false
	c.until = m.now.Mono.Add(g.TTL)
	holders := make(map[string]int)
	for _, other := range m.clients {
		if !other.meets(c) || !other.holds(m.now) {
			continue
		}
		for _, name := range other.names {
			holders[name]++
		}
		if other != c && !c.counts() && (other.mode != lockdriver.Shared || c.mode != lockdriver.Shared) {
			m.failf("%v with %d and %v with %d overlap", c, c.tokens, other, other.tokens)
		}
	}
	for name, n := range holders {
		if c.counts() && n > 3 {
			m.failf("%d holders of 3 permits of %s", n, name)
		}
	}
}

// ownedBefore reports that the grant is an old one of the holder.
func (m *lockModel) ownedBefore(c *lockClient, g *lockdriver.Grant) bool {
	r := m.before.read(c.names[0])
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
		if other != c && other.meets(c) && other.await != nil && m.place(other) < at {
			m.failf("%v at %d overtook %v at %d", c, at, other, m.place(other))
		}
	}
}

func (m *lockModel) checkNobodyListens(c *lockClient) {
	for _, other := range m.clients {
		if other.meets(c) && other.await != nil {
			m.failf("%v overtook %v, who waits", c, other)
		}
	}
}

func (m *lockModel) place(c *lockClient) uint64 {
	seq, err := m.locks.tickets.read(m.request(c), c.ticket.Opaque)
	if err != nil {
		m.failf("%v: %v", c, err)
	}
	return seq
}

// checkDisk compares what a restart would find with what is believed.
func (m *lockModel) checkDisk() {
	for _, c := range m.clients {
		if !c.holds(m.now) {
			continue
		}
		for i, name := range c.names {
			r := m.disk.read(name)
			if r == nil || !slices.ContainsFunc(r.Grants, func(g record.LockGrant) bool {
				return g.Token == c.tokens[i] && g.Holder == c.holder && g.TTL >= c.until.Sub(m.now.Mono)
			}) {
				m.failf("%v: the disk does not know of token %d", c, c.tokens[i])
			}
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
			m.failf("%v waits for ever", c)
		}
	}
	if len(m.locks.waits) > 0 {
		m.failf("waits of %d holders are left", len(m.locks.waits))
	}
	if names, waiters := m.locks.Count(); names+waiters > 0 || len(m.disk.records) > 0 {
		m.failf("%d names, %d waiters and %d records are left", names, waiters, len(m.disk.records))
	}
}
