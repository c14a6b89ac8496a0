package frame

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// AppendAcquire appends an acquire. With wait the request stays in the line
// until it is granted or cancelled.
func AppendAcquire(b []byte, r *lockdriver.Request, wait bool) []byte {
	b, m := begin(b, Acquire, 64+len(r.Name))
	b = appendString(b, 1, r.Name)
	b = appendString(b, 2, r.Holder)
	b = appendString(b, 3, r.ID)
	if r.Ticket != nil {
		b = appendTicket(b, 4, r.Ticket)
	}
	b = appendBool(b, 5, r.Queue)
	b = appendBool(b, 6, wait)
	b = appendUint(b, 7, uint64(r.Mode))
	b = appendInt(b, 8, int64(r.Permits))
	b = appendDuration(b, 9, r.TTL)
	b = appendDuration(b, 10, r.LockDelay)
	b = appendStrings(b, 11, r.Meta)
	b = appendBool(b, 12, r.Resume)
	for _, name := range r.More {
		b = appendString(b, 13, name)
	}
	for _, holder := range r.Within {
		b = appendString(b, 14, holder)
	}
	b = appendBytes(b, 15, r.Value)
	return shut(b, m)
}

// ParseAcquire reads an acquire into req, which is zero.
func ParseAcquire(body []byte, req *lockdriver.Request) (wait bool, err error) {
	r := reader{b: body, what: "acquire"}
	for r.next() {
		switch r.num {
		case 1:
			req.Name = r.string()
		case 2:
			req.Holder = r.string()
		case 3:
			req.ID = r.again(req.Holder)
		case 4:
			req.Ticket = r.ticket()
		case 5:
			req.Queue = r.bool()
		case 6:
			wait = r.bool()
		case 7:
			req.Mode = lockdriver.Mode(min(r.uint(), 0xff))
		case 8:
			req.Permits = r.small()
		case 9:
			req.TTL = r.duration()
		case 10:
			req.LockDelay = r.duration()
		case 11:
			req.Meta = r.entry(req.Meta, lockdriver.MaxMeta)
		case 12:
			req.Resume = r.bool()
		case 13:
			if name := r.string(); r.item(len(req.More), lockdriver.MaxNames, "names") {
				req.More = append(req.More, name)
			}
		case 14:
			if holder := r.string(); r.item(len(req.Within), lockdriver.MaxWithin+1, "holders") {
				req.Within = append(req.Within, holder)
			}
		case 15:
			req.Value = slices.Clone(r.bytes())
		default:
			r.unknown()
		}
	}
	return wait, r.err
}

func appendTicket(b []byte, num protowire.Number, t *lockdriver.Ticket) []byte {
	b, m := open(b, num, len(t.Opaque)+4)
	b = appendString(b, 1, t.Opaque)
	b = appendInt(b, 2, int64(t.Position))
	return shut(b, m)
}

func (r *reader) ticket() *lockdriver.Ticket {
	n, t := r.nested("ticket"), &lockdriver.Ticket{}
	for n.next() {
		switch n.num {
		case 1:
			t.Opaque = n.string()
		case 2:
			t.Position = n.small()
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
	return t
}

// appendStrings appends a map in the order of its keys.
func appendStrings(b []byte, num protowire.Number, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		var e mark
		b, e = open(b, num, len(k)+len(m[k])+8)
		b = appendString(b, 1, k)
		b = appendString(b, 2, m[k])
		b = shut(b, e)
	}
	return b
}

// entry reads one entry of a map.
func (r *reader) entry(m map[string]string, most int) map[string]string {
	n := r.nested("map entry")
	var k, v string
	for n.next() {
		switch n.num {
		case 1:
			k = n.string()
		case 2:
			v = n.string()
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
	// One past the limit is let in, so that the validation can say so.
	if m == nil {
		m = map[string]string{}
	}
	if r.item(len(m), most+1, "entries of a map") {
		m[k] = v
	}
	return m
}

// AppendRenew and AppendRelease append what is to be renewed, or released.
func AppendRenew(b []byte, refs []lockdriver.Ref) []byte {
	return appendRefs(b, Renew, refs)
}

// AppendRelease appends a release.
func AppendRelease(b []byte, refs []lockdriver.Ref) []byte {
	return appendRefs(b, Release, refs)
}

func appendRefs(b []byte, k Kind, refs []lockdriver.Ref) []byte {
	b, m := begin(b, k, 80*len(refs))
	for i := range refs {
		var e mark
		b, e = open(b, 1, 64)
		b = appendString(b, 1, refs[i].Name)
		b = appendString(b, 2, refs[i].Holder)
		b = appendUint(b, 3, uint64(refs[i].Token))
		b = appendDuration(b, 4, refs[i].TTL)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseRefs reads a renew or a release and appends what is in it to refs.
// items counts what the batch has.
func ParseRefs(body []byte, refs []lockdriver.Ref, items *int) ([]lockdriver.Ref, error) {
	r := reader{b: body, what: "list of leases", items: items}
	begin := len(refs)
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(refs)-begin, lockdriver.MaxBatch, "leases") {
			break
		}
		n := r.nested("lease")
		var ref lockdriver.Ref
		for n.next() {
			switch n.num {
			case 1:
				ref.Name = n.string()
			case 2:
				ref.Holder = n.string()
			case 3:
				ref.Token = lease.Token(n.uint())
			case 4:
				ref.TTL = n.duration()
			default:
				n.unknown()
			}
		}
		r.adopt(n.err)
		refs = append(refs, ref)
	}
	return refs, r.err
}

// AppendGranted appends a grant.
func AppendGranted(b []byte, g *lockdriver.Grant) []byte {
	b, m := begin(b, Granted, 32)
	b = appendUint(b, 1, uint64(g.Token))
	b = appendDuration(b, 2, g.TTL)
	b = appendDuration(b, 3, g.Waited)
	b = appendBool(b, 4, g.Resumed)
	for _, t := range g.More {
		b = appendUint(b, 5, uint64(t))
	}
	return shut(b, m)
}

// ParseGranted reads a grant.
func ParseGranted(body []byte) (*lockdriver.Grant, error) {
	r, g := reader{b: body, what: "granted", lenient: true}, &lockdriver.Grant{}
	for r.next() {
		switch r.num {
		case 1:
			g.Token = lease.Token(r.uint())
		case 2:
			g.TTL = r.duration()
		case 3:
			g.Waited = r.duration()
		case 4:
			g.Resumed = r.bool()
		case 5:
			if t := lease.Token(r.uint()); r.item(len(g.More), lockdriver.MaxNames, "tokens") {
				g.More = append(g.More, t)
			}
		default:
			r.unknown()
		}
	}
	return g, r.err
}

// AppendQueued appends the place in the line that a request has taken.
func AppendQueued(b []byte, t *lockdriver.Ticket) []byte {
	b, m := begin(b, Queued, len(t.Opaque)+8)
	b = appendTicket(b, 1, t)
	return shut(b, m)
}

// ParseQueued reads a place in the line.
func ParseQueued(body []byte) (*lockdriver.Ticket, error) {
	r, t := reader{b: body, what: "queued", lenient: true}, &lockdriver.Ticket{}
	for r.next() {
		if r.num == 1 {
			t = r.ticket()
		} else {
			r.unknown()
		}
	}
	return t, r.err
}

// AppendOutcomes appends the outcomes of a renew or a release.
func AppendOutcomes(b []byte, outcomes []lockdriver.Outcome) []byte {
	b, m := begin(b, Outcomes, 8*len(outcomes))
	for i := range outcomes {
		var e mark
		b, e = open(b, 1, 8)
		b = appendError(b, 1, outcomes[i].Err)
		b = appendDuration(b, 2, outcomes[i].TTL)
		b = shut(b, e)
	}
	return shut(b, m)
}

// ParseOutcomes reads the outcomes of a renew or a release.
func ParseOutcomes(body []byte) (out []lockdriver.Outcome, err error) {
	r := reader{b: body, what: "outcomes", lenient: true}
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		if !r.item(len(out), lockdriver.MaxBatch, "outcomes") {
			break
		}
		n := r.nested("outcome")
		var o lockdriver.Outcome
		for n.next() {
			switch n.num {
			case 1:
				o.Err = n.error()
			case 2:
				o.TTL = n.duration()
			default:
				n.unknown()
			}
		}
		r.adopt(n.err)
		out = append(out, o)
	}
	return out, r.err
}

// appendError appends an outcome's error as a problem, nothing for nil.
func appendError(b []byte, num protowire.Number, err error) []byte {
	if err == nil {
		return b
	}
	return appendProblem(b, num, wire.OutcomeOf(err))
}

func (r *reader) error() error {
	n := r.nested("problem")
	p := n.problem()
	r.adopt(n.err)
	return p.Err()
}
