package rabbitmq

import (
	"context"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
)

// A ladder of queues delays messages: each keeps what comes for a time of its
// own, and then hands it to the exchange "due" under its routing key, which is
// the name of the queue that it is for. One queue must not have messages of
// different times, for a broker looks at the first one only.

// level returns the time, in milliseconds, of the queue for a delay: the
// smallest of 1, 2, 3, then 4, 5, 6 and 7 times a power of two that is not
// shorter. So a message is never early, and late by a quarter at most.
func level(d time.Duration) int64 {
	ms := max(1, millis(d))
	step := int64(1)
	for ms > 7*step {
		step *= 2
	}
	return (ms + step - 1) / step * step
}

func (c *conn) levelName(ms int64) string {
	return c.o.Prefix + "delay." + strconv.FormatInt(ms, 10)
}

func (c *conn) isLevel(queue string) bool { return strings.HasPrefix(queue, c.o.Prefix+"delay.") }

// due is the exchange that what was delayed comes out of.
func (c *conn) due() string { return c.o.Prefix + "due" }

// lost is the name of an exchange and a queue for delayed messages whose queue
// is gone: they must not stay in the ladder, in the way of others.
func (c *conn) lost() string { return c.o.Prefix + "lost" }

// delayed makes sure that a message can wait for so long and then get to a
// queue. It returns the exchange to publish to, with the queue's name as the
// key.
func (c *conn) delayed(ctx context.Context, queue string, d time.Duration) (string, error) {
	if d > MaxDelay {
		return "", lease.Invalidf("delay", "must be at most %v on RabbitMQ, is %v", MaxDelay, d)
	}
	ms := level(d)
	c.mu.Lock()
	ready, bound := c.levels[ms], c.targets[queue]
	c.mu.Unlock()
	if ready && bound {
		return c.levelName(ms), nil
	}
	err := c.do(ctx, c.out, func(ch *amqp.Channel) error {
		if !ready {
			if err := c.makeLevel(ch, ms); err != nil {
				return err
			}
		}
		return ch.QueueBind(queue, queue, c.due(), false, nil)
	})
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.levels[ms], c.targets[queue] = true, true
	c.mu.Unlock()
	return c.levelName(ms), nil
}

// makeLevel declares a queue of the ladder and what it leads to. All of it
// stays: a queue that a broker deletes when it is unused takes messages along.
func (c *conn) makeLevel(ch *amqp.Channel, ms int64) error {
	if err := ch.ExchangeDeclare(c.lost(), amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.ExchangeDeclare(c.due(), amqp.ExchangeDirect, true, false, false, false, amqp.Table{"alternate-exchange": c.lost()}); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(c.lost(), true, false, false, false, c.ownArgs()); err != nil {
		return err
	}
	if err := ch.QueueBind(c.lost(), "", c.lost(), false, nil); err != nil {
		return err
	}
	name, args := c.levelName(ms), c.ownArgs()
	args["x-message-ttl"] = ms
	args["x-dead-letter-exchange"] = c.due()
	if c.o.QueueType == Quorum {
		args["x-dead-letter-strategy"], args["x-overflow"] = "at-least-once", "reject-publish"
	}
	if err := ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, nil)
}

// ownArgs are those of the driver's own queues.
func (c *conn) ownArgs() amqp.Table {
	args := amqp.Table{"x-queue-type": string(c.o.QueueType)}
	if c.o.QueueType == Quorum {
		args["x-delivery-limit"] = unlimited
	}
	return args
}

// unlimited is a limit that is never reached: from RabbitMQ 4.0 on there is one
// of 20 where none is given, and messages past it are dropped.
const unlimited = int64(1_000_000)
