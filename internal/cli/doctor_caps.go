package cli

import (
	"fmt"
	"strings"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// power is a capability with its name.
type power struct {
	has  bool
	name string
}

func powersText(backend string, powers []power) string {
	has, lacks := []string{}, []string{}
	for _, p := range powers {
		if p.has {
			has = append(has, p.name)
		} else {
			lacks = append(lacks, p.name)
		}
	}
	text := backend + ": " + strings.Join(has, ", ")
	if len(lacks) > 0 {
		text += "; without " + strings.Join(lacks, ", ")
	}
	return text
}

// locksCapsRows returns what to print of the capabilities of locks, in rows of
// a title and a text.
func locksCapsRows(c *lock.Caps) [][2]string {
	powers := []power{}
	for _, f := range c.Features() {
		powers = append(powers, power{f.Has, f.Name})
	}
	powers = append(powers, power{c.Durable, "durable"})
	ttl := fmt.Sprintf("%s to %s", brief(c.MinTTL), brief(c.MaxTTL))
	if c.TTLPerConn {
		ttl += ", one for all leases of a client"
	}
	failover := "keeps all grants"
	if c.FailoverLosesGrant {
		failover = "can lose grants"
	}
	rows := [][2]string{
		{"locks", powersText(c.Backend, powers)},
		{"  ttl", ttl},
		{"  loss is told", strings.ReplaceAll(string(c.Loss), "_", " ")},
		{"  clock", string(c.Clock)},
		{"  failover", failover},
		{"  a dead waiter", "is in the way for at most " + brief(c.DeadWaiter)},
	}
	for _, l := range c.Assumes.Lines() {
		if l[1] != "" { // a daemon of an earlier version says nothing
			rows = append(rows, [2]string{"  on " + l[0], l[1]})
		}
	}
	return rows
}

func queuesCapsText(c *queue.Caps) string {
	powers := []power{}
	for _, f := range c.Features() {
		powers = append(powers, power{f.Has, f.Name})
	}
	return powersText(c.Backend, powers) + "; confirms are " + string(c.Durability)
}
