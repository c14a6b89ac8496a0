package machine

import (
	"slices"
	"strings"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// exchange routes by the rules of AMQP 0-9-1.
type exchange struct {
	spec     queuedriver.Exchange
	bindings bindingList
	direct   map[string]bindingList // by key, for a direct exchange
	paths    map[path][]*binding
	leading  bindingList // from other exchanges to this one
	mark     uint64
}

// binding sends what one exchange matches to a queue or to another exchange.
type binding struct {
	spec  queuedriver.Binding
	from  *exchange
	queue *queue    // one of queue
	to    *exchange // and to
	words []string  // of the key, for a topic exchange
	steps int       // what it costs to compare Args with headers
	at    [listPlaces]int
}

// Lists that a binding is in; binding.at has its index in each.
const (
	inSource = iota // exchange.bindings
	inKey           // exchange.direct
	inTarget        // leading, of its queue or exchange
	listPlaces
)

// bindingList is a set of bindings in no order: adding and removing cost the
// same, however many there are.
type bindingList []*binding

func (l *bindingList) add(b *binding, place int) {
	b.at[place] = len(*l)
	*l = append(*l, b)
}

func (l *bindingList) remove(b *binding, place int) {
	last := len(*l) - 1
	moved := (*l)[last]
	(*l)[b.at[place]] = moved
	moved.at[place] = b.at[place]
	(*l)[last] = nil
	*l = (*l)[:last]
}

// path is what bindings that differ in their arguments only have in common.
type path struct{ exchange, queue, to, key string }

func pathOf(b *queuedriver.Binding) path { return path{b.Exchange, b.Queue, b.ToExchange, b.Key} }

func newExchange(spec queuedriver.Exchange) *exchange {
	return &exchange{spec: spec, direct: make(map[string]bindingList), paths: make(map[path][]*binding)}
}

// bind adds a binding from e. One of q and to is nil.
func (e *exchange) bind(spec queuedriver.Binding, q *queue, to *exchange) {
	b := &binding{spec: spec, from: e, queue: q, to: to, words: strings.Split(spec.Key, "."), steps: headerSteps(spec.Args)}
	e.bindings.add(b, inSource)
	sameKey := e.direct[spec.Key]
	sameKey.add(b, inKey)
	e.direct[spec.Key] = sameKey
	e.paths[pathOf(&spec)] = append(e.paths[pathOf(&spec)], b)
	b.target().add(b, inTarget)
}

func (b *binding) target() *bindingList {
	if b.to != nil {
		return &b.to.leading
	}
	return &b.queue.leading
}

// unbind takes b out of everything.
func (b *binding) unbind() {
	e := b.from
	e.bindings.remove(b, inSource)
	sameKey := e.direct[b.spec.Key]
	if sameKey.remove(b, inKey); len(sameKey) == 0 {
		delete(e.direct, b.spec.Key)
	} else {
		e.direct[b.spec.Key] = sameKey
	}
	p := pathOf(&b.spec)
	same := func(x *binding) bool { return x == b }
	if e.paths[p] = slices.DeleteFunc(e.paths[p], same); len(e.paths[p]) == 0 {
		delete(e.paths, p)
	}
	b.target().remove(b, inTarget)
}

// unbindAll takes out, durably, the bindings of a list, which is that of a
// source or of a target.
func (l *bindingList) unbindAll(ch Changes) {
	for len(*l) > 0 {
		b := (*l)[len(*l)-1]
		b.unbind()
		ch.DeleteBinding(&b.spec)
	}
}

// find returns the binding equal to spec, or nil.
func (e *exchange) find(spec *queuedriver.Binding) *binding {
	for _, b := range e.paths[pathOf(spec)] {
		if equalTables(b.spec.Args, spec.Args) {
			return b
		}
	}
	return nil
}
