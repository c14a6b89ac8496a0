package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/engine"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	bodySize   = 256 // bytes of a message
	batchSize  = 500 // messages of one publish, receive or settle
	publishers = 4
	consumers  = 2
)

// store is an open engine on a directory.
type store struct {
	*engine.Engine
	q      queuedriver.Conn
	opened time.Duration // how long it took
}

func openStore(ctx context.Context, dir string) (*store, error) {
	began := time.Now()
	e, err := engine.Open(ctx, "file://"+dir+"/store", nil)
	if err != nil {
		return nil, err
	}
	return &store{Engine: e, q: e.Queues(), opened: time.Since(began)}, nil
}

func declare(ctx context.Context, q queuedriver.Conn, qs ...queuedriver.Queue) error {
	_, err := q.Declare(ctx, &queuedriver.Topology{Queues: qs}, false)
	return err
}

// fill publishes n messages to a queue, made by message from their number,
// and calls mark, if there is one, after each part of them (n/parts).
func fill(ctx context.Context, q queuedriver.Conn, queue string, n, parts int, message func(i int) *queuedriver.Message, mark func()) error {
	var next, done atomic.Int64
	part := int64(max(n/max(parts, 1), 1))
	g, ctx := errgroup.WithContext(ctx)
	for range publishers {
		g.Go(func() error {
			for {
				from := int(next.Add(batchSize)) - batchSize
				if from >= n {
					return nil
				}
				ps := make([]queuedriver.Publishing, min(batchSize, n-from))
				for i := range ps {
					ps[i] = queuedriver.Publishing{Route: queuedriver.Route{Key: queue}, Mandatory: true, Message: message(from + i)}
				}
				if err := publish(ctx, q, ps); err != nil {
					return err
				}
				after := done.Add(int64(len(ps)))
				if mark != nil && after/part > (after-int64(len(ps)))/part {
					mark()
				}
			}
		})
	}
	return g.Wait()
}

func publish(ctx context.Context, q queuedriver.Conn, ps []queuedriver.Publishing) error {
	rs, err := q.Publish(ctx, ps)
	for i := range rs {
		err = errors.Join(err, rs[i].Err)
	}
	return err
}

// noise is what bodies are parts of: nothing that compresses.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

// plain makes messages of bodySize, with an id and nothing else.
func plain(i int) *queuedriver.Message {
	at := i * (bodySize + 1) % (len(noise) - bodySize)
	return &queuedriver.Message{ID: strconv.Itoa(i), Body: noise[at : at+bodySize]}
}

// drain receives and acks n messages, or more if they come together, or as
// many as there are, and returns how many. Of held messages each consumer
// receives first, then acks them, in order or in a random one.
func drain(ctx context.Context, q queuedriver.Conn, queue string, n, held int, random bool) (int, error) {
	var begun, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for c := range consumers {
		g.Go(func() error {
			for begun.Load() < int64(n) {
				ss, err := take(ctx, q, &queuedriver.ReceiveRequest{Queue: queue, Consumer: strconv.Itoa(c), Max: batchSize, Lease: 10 * time.Minute}, n, held, &begun)
				if err != nil || len(ss) == 0 {
					return err
				}
				if random {
					rand.Shuffle(len(ss), func(i, j int) { ss[i], ss[j] = ss[j], ss[i] })
				}
				if err := settle(ctx, q, ss); err != nil {
					return err
				}
				done.Add(int64(len(ss)))
			}
			return nil
		})
	}
	err := g.Wait()
	return int(done.Load()), err
}

// take receives once, and on until it has held messages, begun has come to n,
// or there are no more. It returns their acks.
func take(ctx context.Context, q queuedriver.Conn, r *queuedriver.ReceiveRequest, n, held int, begun *atomic.Int64) ([]queuedriver.Settlement, error) {
	var ss []queuedriver.Settlement
	for first := true; first || len(ss) < held && begun.Load() < int64(n); first = false {
		ds, err := q.Receive(ctx, r)
		if err != nil {
			return nil, err
		}
		if len(ds) == 0 {
			break
		}
		begun.Add(int64(len(ds)))
		for i := range ds {
			ss = append(ss, queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Ack})
		}
	}
	return ss, nil
}

func settle(ctx context.Context, q queuedriver.Conn, ss []queuedriver.Settlement) error {
	for len(ss) > 0 {
		n := min(batchSize, len(ss))
		os, err := q.Settle(ctx, ss[:n])
		if err != nil {
			return err
		}
		for i := range os {
			if os[i].Err != nil {
				return fmt.Errorf("ack: %w", os[i].Err)
			}
		}
		ss = ss[n:]
	}
	return nil
}

// rate is n in a time, a second.
func rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
