package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
)

// How calls are put together.
const (
	maxLanes    = 2   // pipelines under way at one server
	maxPipeline = 128 // calls of one
)

// call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []any

	next *call // a waiter's attempt that a release takes along; nil: none

	server *server
	taken  bool // a lane has it; under server.mu
	left   bool // nobody waits for it any more; under server.mu

	done  chan struct{} // closed when the result is there
	reply []any
	acks  int // replicas that have it; only with Options.WaitReplicas
	err   error
}

// server is one Redis that runs scripts. Calls made at once travel in one
// pipeline: what comes while all lanes are busy is the next one. A caller
// whose ctx ends goes away at once, and its call runs on.
type server struct {
	c      *conn
	client *goredis.Client

	mu    sync.Mutex
	lanes int
	line  []*call
}

// run runs a script at the server that has its keys.
func (c *conn) run(ctx context.Context, k *call) error {
	if err := c.start(ctx, k); err != nil {
		return err
	}
	return c.finish(ctx, k)
}

// start sends a call on its way.
func (c *conn) start(ctx context.Context, k *call) error {
	if c.isClosed() {
		return lease.ErrClosed
	}
	if ctx.Err() != nil {
		return endedBefore(ctx)
	}
	s, err := c.serverFor(ctx, k.keys[0])
	if err != nil {
		return err
	}
	k.server, k.done = s, make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes < maxLanes {
		if !c.work.Start(s.lane) {
			return lease.ErrClosed
		}
		s.lanes++
	}
	s.line = append(s.line, k)
	return nil
}

// finish waits for a call. With a Cluster it follows a slot that has moved.
func (c *conn) finish(ctx context.Context, k *call) error {
	select {
	case <-k.done:
	case <-ctx.Done():
		if k.leave() {
			return endedBefore(ctx)
		}
		return fmt.Errorf("%w: %w", lease.ErrUnknown, context.Cause(ctx))
	case <-c.closed:
		return fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown)
	}
	err := k.err
	if c.cluster != nil && err != nil {
		c.cluster.ReloadState(ctx)
		if hasCode(err, "MOVED", "ASK") { // it was not run: let the client go there
			return c.redirect(ctx, k)
		}
	}
	return classify(err, c.sendsOnce)
}

// leave gives a call up, and reports whether it was before it was sent.
func (k *call) leave() bool {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	k.left = true
	return !k.taken
}

// redirect runs a call as the cluster's client does, who follows and repeats.
func (c *conn) redirect(ctx context.Context, k *call) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout)
	defer cancel()
	k.reply, k.err = c.cluster.Eval(ctx, k.script.text, k.keys, k.args...).Slice()
	if c.isClosed() {
		return lease.ErrClosed
	}
	return classify(k.err, false)
}

// Why an attempt that a release took along has no answer.
var (
	errNotSent = errors.New("the release was given up")
	errInVain  = errors.New("it was not the turn of the first waiter")
)

// settleNext gives the attempt that came along its part of the answer. After an
// error it may have been granted: it is made again, with the same id.
func (k *call) settleNext() {
	n := k.next
	switch {
	case n == nil:
		return
	case k.err != nil:
		n.err = k.err
	case len(k.reply) > 1:
		n.reply = k.reply[1:]
	default:
		n.err = errInVain
	}
	close(n.done)
}

// serverFor finds the server of a key.
func (c *conn) serverFor(ctx context.Context, key string) (*server, error) {
	client := c.single
	if c.cluster != nil {
		var err error
		if client, err = c.cluster.MasterForKey(ctx, key); err != nil {
			return nil, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[client]
	if s == nil {
		s = &server{c: c, client: client}
		c.servers[client] = s
	}
	return s, nil
}

// lane runs pipelines as long as there are calls.
func (s *server) lane() {
	for {
		batch := s.next()
		if len(batch) == 0 {
			return
		}
		s.pipeline(batch)
		for _, k := range batch {
			close(k.done)
		}
		for _, k := range batch { // last, so that they run first
			k.settleNext()
		}
	}
}

// next takes the calls of a pipeline out of the line; none: the lane ends.
func (s *server) next() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*call
	for len(s.line) > 0 && len(batch) < maxPipeline {
		k := s.line[0]
		s.line[0] = nil
		s.line = s.line[1:]
		if k.left {
			k.err = errNotSent
			k.settleNext()
			continue
		}
		k.taken = true
		batch = append(batch, k)
	}
	if len(batch) == 0 {
		s.lanes--
		s.line = nil
	}
	return batch
}

// pipeline runs calls, and those again whose script the server did not know.
func (s *server) pipeline(batch []*call) {
	s.send(batch)
	var unknown []*call
	for _, k := range batch {
		if hasCode(k.err, "NOSCRIPT") {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) == 0 {
		return
	}
	pipe := s.client.Pipeline()
	loaded := map[*script]bool{}
	for _, k := range unknown {
		if !loaded[k.script] {
			loaded[k.script] = true
			pipe.ScriptLoad(s.c.ctx, k.script.text)
		}
	}
	if _, err := pipe.Exec(s.c.ctx); err != nil {
		for _, k := range unknown {
			k.err = fmt.Errorf("%w: load a script: %w", lease.ErrUnavailable, err)
		}
		return
	}
	s.send(unknown)
}

// send makes one attempt.
func (s *server) send(batch []*call) {
	pipe := s.client.Pipeline()
	cmds := make([]*goredis.Cmd, len(batch))
	writes := false
	for i, k := range batch {
		cmds[i] = pipe.EvalSha(s.c.ctx, k.script.sha, k.keys, k.args...)
		writes = writes || k.script == acquireScript || k.script == renewScript
	}
	var wait *goredis.Cmd
	if writes && s.c.waitReplicas > 0 {
		wait = pipe.Do(s.c.ctx, "WAIT", s.c.waitReplicas, (s.c.timeout / 2).Milliseconds())
	}
	// The error of Exec is that of one of the calls, and is found there.
	_, _ = pipe.Exec(s.c.ctx)
	acks := 0
	if wait != nil {
		acks, _ = wait.Int() // what failed was acknowledged by nobody
	}
	for i, k := range batch {
		k.reply, k.err = cmds[i].Slice()
		k.acks = acks
	}
}
