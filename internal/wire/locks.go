package wire

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// AcquireRequest asks for a lock: POST /v1/locks/acquire.
type AcquireRequest struct {
	Name      string            `json:"name,omitempty" doc:"1 to 512 bytes; slashes and spaces are fine"`
	Names     []string          `json:"names,omitempty" doc:"instead of name: up to 64, all of them or none"`
	Holder    string            `json:"holder" doc:"who asks, chosen by the client: 1 to 128 bytes"`
	RequestID string            `json:"request_id,omitempty" doc:"tells a repeat of this request from a second one by the same holder"`
	TTL       Millis            `json:"ttl_ms" doc:"the lease ends so long after the grant unless it is renewed"`
	Wait      Millis            `json:"wait_ms,omitempty" doc:"how long to wait in the line, at most 300000; 0 is a try"`
	Queue     bool              `json:"queue,omitempty" doc:"take a place in the line though wait_ms is 0"`
	Mode      string            `json:"mode,omitempty" enum:"exclusive,shared"`
	Permits   int               `json:"permits,omitempty" doc:"how many may hold the name at once: 2 to 1024 make a semaphore"`
	LockDelay Millis            `json:"lock_delay_ms,omitempty" doc:"how long the name stays closed after the holder was lost"`
	Within    []string          `json:"within,omitempty" doc:"up to 16 holders that keep their locks while this request waits: how deadlocks are found"`
	Ticket    string            `json:"ticket,omitempty" doc:"of the place in the line that an earlier answer gave"`
	Resume    bool              `json:"resume,omitempty" doc:"take up the grant that this holder has already"`
	Meta      map[string]string `json:"meta,omitempty" doc:"shown to whoever lists locks"`
	Value     []byte            `json:"value,omitempty" doc:"a leader's value, in base64: up to 4096 bytes, shown with the grant"`
}

// NewAcquireRequest is the wire form of r, without a wait.
func NewAcquireRequest(r *lockdriver.Request) *AcquireRequest {
	a := &AcquireRequest{
		Within: r.Within, Value: r.Value, Holder: r.Holder, RequestID: r.ID, TTL: LeaseMillis(r.TTL), Queue: r.Queue,
		Permits: r.Permits, LockDelay: Ceil(r.LockDelay), Resume: r.Resume, Meta: r.Meta,
	}
	a.Name, a.Names = splitNames(r)
	if r.Mode != lockdriver.Exclusive {
		a.Mode = r.Mode.String()
	}
	if r.Ticket != nil {
		a.Ticket = r.Ticket.Opaque
	}
	return a
}

// splitNames returns the names of a request as the wire has them: one, or a
// list.
func splitNames(r *lockdriver.Request) (string, []string) {
	if len(r.More) == 0 {
		return r.Name, nil
	}
	return "", append([]string{r.Name}, r.More...)
}

// joinNames is the inverse of splitNames. The names may come in any order.
func joinNames(name string, names []string) (string, []string, error) {
	if names == nil {
		return name, nil, nil
	}
	if name != "" {
		return "", nil, lease.Invalidf("names", "excludes name: give one name or a list")
	}
	if len(names) == 0 || len(names) > lockdriver.MaxNames {
		return "", nil, lease.Invalidf("names", "must be 1 to %d, are %d", lockdriver.MaxNames, len(names))
	}
	names = slices.Sorted(slices.Values(names))
	return names[0], names[1:], nil
}

// Driver returns what a driver is asked.
func (a *AcquireRequest) Driver() (*lockdriver.Request, error) {
	mode, err := parseMode(a.Mode)
	if err != nil {
		return nil, err
	}
	if a.Wait < 0 || a.Wait.Duration() > MaxWait {
		return nil, lease.Invalidf("wait", "must be 0 to %v, is %v", MaxWait, a.Wait.Duration())
	}
	name, more, err := joinNames(a.Name, a.Names)
	if err != nil {
		return nil, err
	}
	r := &lockdriver.Request{
		Name: name, More: more, Within: a.Within, Value: a.Value, Holder: a.Holder, ID: a.RequestID, Mode: mode, Permits: a.Permits,
		TTL: a.TTL.Duration(), LockDelay: a.LockDelay.Duration(), Meta: a.Meta,
		Queue: a.Queue || a.Wait > 0, Resume: a.Resume,
	}
	if a.Ticket != "" {
		r.Ticket = &lockdriver.Ticket{Opaque: a.Ticket}
	}
	return r, nil
}

func parseMode(s string) (lockdriver.Mode, error) {
	switch s {
	case "", "exclusive":
		return lockdriver.Exclusive, nil
	case "shared":
		return lockdriver.Shared, nil
	}
	return 0, lease.Invalidf("mode", "must be exclusive or shared, is %q", s)
}

// AcquireReply is a grant.
type AcquireReply struct {
	Name    string      `json:"name,omitempty"`
	Holder  string      `json:"holder"`
	Token   lease.Token `json:"token,omitempty" doc:"fencing token: only ever grows for this name"`
	Locks   []NameToken `json:"locks,omitempty" doc:"instead of name and token if the request had names: one for each, in byte order"`
	TTL     Millis      `json:"ttl_ms" doc:"what was given, at most what was asked"`
	Waited  Millis      `json:"waited_ms" doc:"from the receipt of this request to the moment from which ttl_ms counts"`
	Resumed bool        `json:"resumed,omitempty"`
}

// NameToken is the token of a grant on one of several names.
type NameToken struct {
	Name  string      `json:"name"`
	Token lease.Token `json:"token"`
}

// NewAcquireReply is the wire form of the grant of a request; list says
// whether it had names.
func NewAcquireReply(r *lockdriver.Request, g *lockdriver.Grant, list bool) *AcquireReply {
	out := &AcquireReply{Holder: r.Holder, TTL: LeaseMillis(g.TTL), Waited: Floor(g.Waited), Resumed: g.Resumed}
	if !list {
		out.Name, out.Token = r.Name, g.Token
		return out
	}
	out.Locks = make([]NameToken, r.Names())
	for i := range out.Locks {
		out.Locks[i] = NameToken{Name: r.NameAt(i), Token: g.TokenAt(i)}
	}
	return out
}

// Grant returns the grant of r that the reply is, or an error if it is none.
func (a *AcquireReply) Grant(r *lockdriver.Request) (*lockdriver.Grant, error) {
	g := &lockdriver.Grant{Token: a.Token, TTL: a.TTL.Duration(), Waited: a.Waited.Duration(), Resumed: a.Resumed}
	if len(r.More) > 0 {
		if len(a.Locks) != r.Names() {
			return nil, fmt.Errorf("%w: the answer has %d of %d names", lease.ErrUnknown, len(a.Locks), r.Names())
		}
		g.Token, g.More = a.Locks[0].Token, make([]lease.Token, len(r.More))
		for i := range g.More {
			g.More[i] = a.Locks[i+1].Token
		}
	}
	return g, nil
}

// CancelRequest undoes an acquire: POST /v1/locks/cancel.
type CancelRequest struct {
	Name      string   `json:"name,omitempty"`
	Names     []string `json:"names,omitempty" doc:"instead of name, as in the acquire"`
	Holder    string   `json:"holder"`
	RequestID string   `json:"request_id,omitempty"`
	Ticket    string   `json:"ticket,omitempty"`
}

// NewCancelRequest is the wire form of what is to be undone.
func NewCancelRequest(r *lockdriver.Request) *CancelRequest {
	c := &CancelRequest{Holder: r.Holder, RequestID: r.ID}
	c.Name, c.Names = splitNames(r)
	if r.Ticket != nil {
		c.Ticket = r.Ticket.Opaque
	}
	return c
}

// Driver returns what a driver is asked.
func (c *CancelRequest) Driver() (*lockdriver.Request, error) {
	name, more, err := joinNames(c.Name, c.Names)
	if err != nil {
		return nil, err
	}
	if len(c.Ticket) > lockdriver.MaxTicket {
		return nil, lease.Invalidf("ticket", "must be at most %d bytes, has %d", lockdriver.MaxTicket, len(c.Ticket))
	}
	r := &lockdriver.Request{Name: name, More: more, Holder: c.Holder, ID: c.RequestID}
	if c.Ticket != "" {
		r.Ticket = &lockdriver.Ticket{Opaque: c.Ticket}
	}
	if err := r.ValidateCancel(); err != nil {
		return nil, err
	}
	return r, nil
}

// LeaseRef names one grant.
type LeaseRef struct {
	Name   string      `json:"name,omitempty"`
	Holder string      `json:"holder,omitempty"`
	Token  lease.Token `json:"token,omitempty"`
}

// ReleaseRequest gives leases back: POST /v1/locks/release. It has either one
// lease, or a list.
type ReleaseRequest struct {
	LeaseRef
	Leases []LeaseRef `json:"leases,omitempty" doc:"1 to 1000, instead of name, holder and token"`
}

// RenewRef names a lease and its new TTL.
type RenewRef struct {
	LeaseRef
	TTL Millis `json:"ttl_ms,omitempty"`
}

// RenewRequest gives leases their TTL anew: POST /v1/locks/renew. It has
// either one lease, or a list.
type RenewRequest struct {
	RenewRef
	Leases []RenewRef `json:"leases,omitempty" doc:"1 to 1000, instead of name, holder, token and ttl_ms"`
}

// LeaseOutcome is what became of one lease.
type LeaseOutcome struct {
	TTL   Millis   `json:"ttl_ms,omitempty" doc:"after a renewal"`
	Error *Problem `json:"error,omitempty"`
}

// LeasesReply has an outcome for each lease of the request, in its order. For
// a request with one lease and no list, a failure is a problem instead.
type LeasesReply struct {
	Outcomes []LeaseOutcome `json:"outcomes"`
}

// RevokeRequest is an operator's act: POST /v1/locks/revoke.
type RevokeRequest struct {
	Name  string      `json:"name"`
	Token lease.Token `json:"token,omitempty" doc:"of the grant; all grants of the name without it"`
	Break bool        `json:"break,omitempty" doc:"give the name away at once: holders can overlap, only the token protects"`
}

// LocksReply is an answer to GET /v1/locks.
type LocksReply struct {
	Locks []LockInfo `json:"locks"`
	Next  string     `json:"next,omitempty" doc:"pass it as after to continue"`
}

// LockInfo is the state of one name.
type LockInfo struct {
	Name      string       `json:"name"`
	Mode      string       `json:"mode" enum:"exclusive,shared"`
	Permits   int          `json:"permits" doc:"1 for a plain lock"`
	Grants    []GrantInfo  `json:"grants"`
	Waiters   []WaiterInfo `json:"waiters" doc:"the first of the line"`
	Waiting   int          `json:"waiting" doc:"how long the line is"`
	ClosedFor Millis       `json:"closed_for_ms,omitempty" doc:"what is left of a lock-delay"`
}

// GrantInfo describes a holder.
type GrantInfo struct {
	Holder    string            `json:"holder"`
	Token     lease.Token       `json:"token"`
	Mode      string            `json:"mode" enum:"exclusive,shared"`
	Held      Millis            `json:"held_ms"`
	Remaining Millis            `json:"remaining_ms"`
	TTL       Millis            `json:"ttl_ms"`
	Revoked   bool              `json:"revoked,omitempty"`
	Meta      map[string]string `json:"meta,omitempty"`
	Value     []byte            `json:"value,omitempty" doc:"a leader's value, in base64"`
}

// WaiterInfo describes a place in the line.
type WaiterInfo struct {
	Holder   string `json:"holder"`
	Mode     string `json:"mode" enum:"exclusive,shared"`
	Position int    `json:"position"`
	Waiting  Millis `json:"waiting_ms"`
}

// NewLockInfo is the wire form of i.
func NewLockInfo(i *lockdriver.Info) LockInfo {
	out := LockInfo{
		Name: i.Name, Mode: i.Mode.String(), Permits: i.Permits, Waiting: i.Waiting, ClosedFor: Ceil(i.ClosedFor),
		Grants: make([]GrantInfo, len(i.Grants)), Waiters: make([]WaiterInfo, len(i.Waiters)),
	}
	for j, g := range i.Grants {
		out.Grants[j] = GrantInfo{
			Holder: g.Holder, Token: g.Token, Mode: g.Mode.String(), Held: Floor(g.Held),
			Remaining: Ceil(g.Remaining), TTL: LeaseMillis(g.TTL), Revoked: g.Revoked, Meta: g.Meta, Value: g.Value,
		}
	}
	for j, w := range i.Waiters {
		out.Waiters[j] = WaiterInfo{Holder: w.Holder, Mode: w.Mode.String(), Position: w.Position, Waiting: Floor(w.Waiting)}
	}
	return out
}

// Driver is the inverse of NewLockInfo.
func (i *LockInfo) Driver() (lockdriver.Info, error) {
	mode, err := parseMode(i.Mode)
	if err != nil {
		return lockdriver.Info{}, err
	}
	out := lockdriver.Info{Name: i.Name, Mode: mode, Permits: i.Permits, Waiting: i.Waiting, ClosedFor: i.ClosedFor.Duration()}
	for _, g := range i.Grants {
		if mode, err = parseMode(g.Mode); err != nil {
			return out, err
		}
		out.Grants = append(out.Grants, lockdriver.GrantInfo{
			Holder: g.Holder, Token: g.Token, Mode: mode, Held: g.Held.Duration(),
			Remaining: g.Remaining.Duration(), TTL: g.TTL.Duration(), Revoked: g.Revoked, Meta: g.Meta, Value: g.Value,
		})
	}
	for _, w := range i.Waiters {
		if mode, err = parseMode(w.Mode); err != nil {
			return out, err
		}
		out.Waiters = append(out.Waiters, lockdriver.WaiterInfo{Holder: w.Holder, Mode: mode, Position: w.Position, Waiting: w.Waiting.Duration()})
	}
	return out, nil
}
