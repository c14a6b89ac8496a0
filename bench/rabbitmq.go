package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// How RabbitMQ is used: publishers and consumers with a connection each, as
// its documentation advises, confirms and acks in runs.
const (
	rabbitWindow   = 2048 // messages of a publisher that are not confirmed
	rabbitPrefetch = 2000
	rabbitAckEvery = 200 // messages that one ack covers at most
	rabbitAckAfter = 2 * time.Millisecond
)

// rabbitQueue is a queue of a RabbitMQ.
type rabbitQueue struct{ url, name string }

// rabbitOf makes a durable queue of a type that RabbitMQ has.
func rabbitOf(kind string) makeCourier {
	return func(t testing.TB, s *Servers) (courier, int) {
		t.Helper()
		s.Rabbit.Continue(t)
		t.Cleanup(func() { s.Rabbit.Pause(t) })
		q := &rabbitQueue{url: "amqp://guest:guest@" + s.Rabbit.Addr() + "/", name: "bench-" + kind}
		conn, err := amqp.Dial(q.url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclare(q.name, true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := ch.QueueDelete(q.name, false, false, false); err != nil {
				t.Error(err)
			}
		})
		return q, s.Rabbit.Pid()
	}
}

func (q *rabbitQueue) publish(ctx context.Context, body []byte, more func() bool) (err error) {
	conn, ch, err := q.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	window := make(chan *amqp.DeferredConfirmation, rabbitWindow)
	var confirms sync.WaitGroup
	var refused error
	confirms.Go(func() {
		for c := range window {
			if ok, err := c.WaitContext(ctx); err != nil || !ok {
				refused = errors.Join(err, errors.New("a message was not confirmed"))
			}
		}
	})
	defer func() { err = errors.Join(err, refused) }()
	defer confirms.Wait()
	defer close(window)
	for more() {
		c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", q.name, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: body,
		})
		if err != nil {
			return err
		}
		window <- c
	}
	return nil
}

func (q *rabbitQueue) open() (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(q.url)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

func (q *rabbitQueue) consume(ctx context.Context, each func()) (err error) {
	conn, ch, err := q.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := ch.Qos(rabbitPrefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(q.name, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var last amqp.Delivery
	open := 0 // deliveries that are not acked yet
	ack := func() error {
		if open == 0 {
			return nil
		}
		open = 0
		return last.Ack(true)
	}
	tick := time.NewTicker(rabbitAckAfter)
	defer tick.Stop()
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return fmt.Errorf("RabbitMQ has ended the consumer of %s", q.name)
			}
			last = d
			if open++; open >= rabbitAckEvery {
				err = ack()
			}
			each()
		case <-tick.C:
			err = ack()
		case <-ctx.Done():
			// The answer to the close comes when the acks before it were read.
			return errors.Join(ack(), ch.Close())
		}
		if err != nil {
			return err
		}
	}
}
