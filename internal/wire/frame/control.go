package frame

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// AppendCancel appends the end of a request: an acquire that waits, a receive
// or a call. It has no answer of its own; the request has one.
func AppendCancel(b []byte) []byte { return appendEmpty(b, Cancel) }

// AppendPing appends a ping, to which a pong with its id answers.
func AppendPing(b []byte) []byte { return appendEmpty(b, Ping) }

// AppendPong appends the answer to a ping.
func AppendPong(b []byte) []byte { return appendEmpty(b, Pong) }

// AppendDone appends the end of a receive that was cancelled.
func AppendDone(b []byte) []byte { return appendEmpty(b, Done) }

// AppendCredit appends credit for n more messages of a receive that goes on.
func AppendCredit(b []byte, n int) []byte {
	b, m := begin(b, Credit, 4)
	b = appendInt(b, 1, int64(n))
	return shut(b, m)
}

// ParseCredit reads a credit.
func ParseCredit(body []byte) (int, error) {
	r, n := reader{b: body, what: "credit"}, 0
	for r.next() {
		if r.num == 1 {
			n = r.small()
		} else {
			r.unknown()
		}
	}
	return n, r.err
}

// ParseEmpty checks the body of a frame that has none.
func ParseEmpty(f Frame) error {
	r := reader{b: f.Body, what: f.Kind.String()}
	for r.next() {
		r.unknown()
	}
	return r.err
}

// Request is a request of the HTTP interface: a call.
type Request struct {
	Method, Path, Query, Media string
	Body                       []byte
}

// AppendCall appends a call.
func AppendCall(b []byte, c *Request) []byte {
	b, m := begin(b, Call, len(c.Body)+len(c.Query)+64)
	b = appendString(b, 1, c.Method)
	b = appendString(b, 2, c.Path)
	b = appendString(b, 3, c.Query)
	b = appendString(b, 4, c.Media)
	b = appendBytes(b, 5, c.Body)
	return shut(b, m)
}

// ParseCall reads a call. Its body aliases the input.
func ParseCall(body []byte) (*Request, error) {
	r, c := reader{b: body, what: "call"}, &Request{}
	for r.next() {
		switch r.num {
		case 1:
			c.Method = r.string()
		case 2:
			c.Path = r.string()
		case 3:
			c.Query = r.string()
		case 4:
			c.Media = r.string()
		case 5:
			c.Body = r.bytes()
		default:
			r.unknown()
		}
	}
	return c, r.err
}

// Answer is a part of the answer to a call.
type Answer struct {
	Status int    // in the first part
	Media  string // in the first part
	Body   []byte
	More   bool // more parts follow
}

// AppendReply appends a part of an answer.
func AppendReply(b []byte, a *Answer) []byte {
	b, m := begin(b, Reply, len(a.Body)+64)
	b = appendInt(b, 1, int64(a.Status))
	b = appendString(b, 2, a.Media)
	b = appendBytes(b, 3, a.Body)
	b = appendBool(b, 4, a.More)
	return shut(b, m)
}

// ParseReply reads a part of an answer. Its body aliases the input.
func ParseReply(body []byte) (*Answer, error) {
	r, a := reader{b: body, what: "reply", lenient: true}, &Answer{}
	for r.next() {
		switch r.num {
		case 1:
			a.Status = r.small()
		case 2:
			a.Media = r.string()
		case 3:
			a.Body = r.bytes()
		case 4:
			a.More = r.bool()
		default:
			r.unknown()
		}
	}
	return a, r.err
}

// AppendProblem appends the failure of a request.
func AppendProblem(b []byte, p *wire.Problem) []byte {
	b, m := begin(b, Problem, len(p.Detail)+64)
	b = appendProblem(b, 1, p)
	return shut(b, m)
}

// ParseProblem reads the failure of a request.
func ParseProblem(body []byte) (*wire.Problem, error) {
	r, p := reader{b: body, what: "problem", lenient: true}, &wire.Problem{Code: wire.CodeUnknown}
	for r.next() {
		if r.num != 1 {
			r.unknown()
			continue
		}
		n := r.nested("problem")
		p = n.problem()
		r.adopt(n.err)
	}
	return p, r.err
}

// appendProblem leaves out what follows from the code.
func appendProblem(b []byte, num protowire.Number, p *wire.Problem) []byte {
	b, m := open(b, num, len(p.Detail)+32)
	b = appendString(b, 1, p.Code)
	b = appendString(b, 2, p.Detail)
	b = appendString(b, 3, p.Field)
	b = appendString(b, 4, p.Reason)
	b = appendString(b, 5, p.Instance)
	b = appendString(b, 6, p.Ticket)
	b = appendInt(b, 7, int64(p.Position))
	b = appendString(b, 8, p.Part)
	b = appendInt(b, 9, int64(p.Index))
	for i := range p.Cycle {
		b = appendWaiting(b, 10, &p.Cycle[i])
	}
	return shut(b, m)
}

func (r *reader) problem() *wire.Problem {
	p := &wire.Problem{}
	for r.next() {
		switch r.num {
		case 1:
			p.Code = r.string()
		case 2:
			p.Detail = r.string()
		case 3:
			p.Field = r.string()
		case 4:
			p.Reason = r.string()
		case 5:
			p.Instance = r.string()
		case 6:
			p.Ticket = r.string()
		case 7:
			p.Position = r.small()
		case 8:
			p.Part = r.string()
		case 9:
			p.Index = r.small()
		case 10:
			if w := r.waiting(); r.item(len(p.Cycle), lockdriver.MaxCycle, "waits of a circle") {
				p.Cycle = append(p.Cycle, w)
			}
		default:
			r.unknown()
		}
	}
	return p
}

// appendWaiting appends a wait of a deadlock.
func appendWaiting(b []byte, num protowire.Number, w *wire.Waiting) []byte {
	b, m := open(b, num, len(w.Owner)+len(w.Holder)+len(w.Name)+8)
	b = appendString(b, 1, w.Owner)
	b = appendString(b, 2, w.Holder)
	b = appendString(b, 3, w.Name)
	b = appendBool(b, 4, w.Behind)
	return shut(b, m)
}

func (r *reader) waiting() (w wire.Waiting) {
	n := r.nested("wait")
	for n.next() {
		switch n.num {
		case 1:
			w.Owner = n.string()
		case 2:
			w.Holder = n.string()
		case 3:
			w.Name = n.string()
		case 4:
			w.Behind = n.bool()
		default:
			n.unknown()
		}
	}
	r.adopt(n.err)
	return w
}
