package server

import (
	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func serveDeclare(c *call) error {
	v := values{Values: c.query}
	dryRun := v.bool("dry_run", false)
	if v.err != nil {
		return v.err
	}
	var in wire.Topology
	if err := c.decode(&in); err != nil {
		return err
	}
	t := in.Driver()
	caps := c.s.queueCaps(c.session)
	if err := t.Validate(&caps); err != nil {
		return err
	}
	changes, err := c.queues().Declare(c.r.Context(), t, dryRun)
	if err != nil {
		return err
	}
	out := wire.TopologyReply{Changes: make([]wire.Change, len(changes)), DryRun: dryRun}
	for i, ch := range changes {
		out.Changes[i] = wire.Change{Action: ch.Action, What: ch.What, Name: ch.Name}
	}
	return c.reply(&out)
}

func serveTopology(c *call) error {
	t, err := c.queues().Topology(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(wire.NewTopology(t))
}

func serveDeleteQueue(c *call) error {
	v := values{Values: c.query}
	req := &queuedriver.DeleteRequest{Queue: v.Get("name"), IfEmpty: v.bool("if_empty", false)}
	if v.err != nil {
		return v.err
	}
	if err := queuedriver.ValidateQueueName("name", req.Queue); err != nil {
		return err
	}
	return c.delete(req)
}

func serveDeleteExchange(c *call) error {
	v := values{Values: c.query}
	req := &queuedriver.DeleteRequest{Exchange: v.Get("name"), IfUnused: v.bool("if_unused", false)}
	if v.err != nil {
		return v.err
	}
	if err := queuedriver.ValidateQueueName("name", req.Exchange); err != nil {
		return err
	}
	return c.delete(req)
}

func serveDeleteBinding(c *call) error {
	v := values{Values: c.query}
	w := wire.Topology{Bindings: []wire.Binding{{
		Exchange: v.Get("exchange"), Queue: v.Get("queue"), ToExchange: v.Get("to_exchange"), Key: v.Get("key"), Args: v.headers("args"),
	}}}
	if v.err != nil {
		return v.err
	}
	t := w.Driver()
	caps := c.s.queueCaps(c.session)
	if err := t.Validate(&caps); err != nil {
		return inQuery(err)
	}
	return c.delete(&queuedriver.DeleteRequest{Binding: &t.Bindings[0]})
}

// inQuery names the fields of a single binding as the query does.
func inQuery(err error) error {
	p := *wire.ProblemOf(err)
	const at = "bindings[0]."
	if len(p.Field) > len(at) && p.Field[:len(at)] == at {
		p.Field = p.Field[len(at):]
	}
	return wire.NewProblem(p.Code, p.Field, p.Reason)
}

func (c *call) delete(req *queuedriver.DeleteRequest) error {
	if err := c.queues().Delete(c.r.Context(), req); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveQueues(c *call) error {
	v := values{Values: c.query}
	req := &queuedriver.StatsRequest{Queue: v.Get("name"), Prefix: v.Get("prefix"), After: v.Get("after"), Max: v.int("limit", queuedriver.MaxList)}
	if v.err != nil {
		return v.err
	}
	if err := validList(req.Queue, req.Prefix, req.After, queuedriver.ValidateQueueName); err != nil {
		return err
	}
	stats, err := c.queues().Stats(c.r.Context(), req)
	if err != nil {
		return err
	}
	out := wire.QueuesReply{Queues: make([]wire.QueueStats, len(stats))}
	for i := range stats {
		out.Queues[i] = wire.NewQueueStats(&stats[i])
	}
	if n := len(stats); n > 0 && req.Queue == "" && n >= orDefault(req.Max, queuedriver.DefaultList) {
		out.Next = stats[n-1].Name
	}
	return c.reply(&out)
}

func serveMessages(c *call) error {
	v := values{Values: c.query}
	req := &queuedriver.PeekRequest{Queue: v.Get("queue"), After: v.uint64("after"), Max: v.int("limit", queuedriver.MaxPeek)}
	if v.err != nil {
		return v.err
	}
	if err := queuedriver.ValidateQueueName("queue", req.Queue); err != nil {
		return err
	}
	if err := c.reserve(c.r.Context(), queuedriver.MaxReceiveBytes); err != nil {
		return err
	}
	peeked, err := c.queues().Peek(c.r.Context(), req)
	if err != nil {
		return err
	}
	out := wire.MessagesReply{Messages: make([]wire.Peeked, len(peeked))}
	for i := range peeked {
		out.Messages[i] = wire.NewPeeked(&peeked[i])
	}
	return c.reply(&out)
}

func serveDetach(c *call) error {
	var in wire.DetachRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := queuedriver.ValidateQueueName("queue", in.Queue); err != nil {
		return err
	}
	if err := queuedriver.ValidateConsumer("consumer", in.Consumer); err != nil {
		return err
	}
	if err := c.s.consumers.cancel(c.r.Context(), consumerKey(in.Queue, in.Consumer)); err != nil {
		return err
	}
	if err := c.queues().Detach(c.r.Context(), in.Queue, in.Consumer); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveCancelScheduled(c *call) error {
	queue, id := c.query.Get("queue"), c.query.Get("id")
	if err := queuedriver.ValidateCancel(queue, id); err != nil {
		return err
	}
	if err := c.queues().CancelScheduled(c.r.Context(), queue, id); err != nil {
		return err
	}
	return c.reply(nil)
}

func servePurge(c *call) error {
	var in wire.PurgeRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := queuedriver.ValidateQueueName("queue", in.Queue); err != nil {
		return err
	}
	n, err := c.queues().Purge(c.r.Context(), in.Queue)
	if err != nil {
		return err
	}
	return c.reply(&wire.PurgeReply{Purged: n})
}

func serveRedrive(c *call) error {
	var in wire.RedriveRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := queuedriver.ValidateQueueName("queue", in.Queue); err != nil {
		return err
	}
	if err := validMax("max", in.Max, queuedriver.MaxRedrive); err != nil {
		return err
	}
	req := &queuedriver.RedriveRequest{Queue: in.Queue, Max: in.Max}
	if in.To != nil {
		to := queuedriver.Publishing{Route: queuedriver.Route{Exchange: in.To.Exchange, Key: in.To.Key}, Message: &queuedriver.Message{}}
		if err := to.Validate(); err != nil {
			p := wire.ProblemOf(err)
			return lease.Invalidf("to"+p.Field[len("route"):], "%s", p.Reason)
		}
		req.To = &to.Route
	}
	n, err := c.queues().Redrive(c.r.Context(), req)
	if err != nil {
		return err
	}
	return c.reply(&wire.RedriveReply{Redriven: n})
}
