package driver

import (
	"github.com/lockkeeper/lockkeeper/lease"
)

// MaxStatement bounds each sentence of a Statement, in bytes.
const MaxStatement = 400

// Statement says for people what a backend assumes and what it may lose. Each
// field is one line of one or two sentences, without a word for "not known":
// what the driver cannot promise, it says.
type Statement struct {
	Confirm string // what a confirmed message outlives, and what it does not
	Ack     string // what a settlement outlives, and what an overtaken one can do
	Attempt string // what is counted as an attempt, and what is not
	Delay   string // how exact a delay is, and whether it can be cancelled
}

// Lines returns the fields with their titles.
func (s *Statement) Lines() [][2]string {
	return [][2]string{{"a confirm", s.Confirm}, {"an ack", s.Ack}, {"attempts", s.Attempt}, {"delays", s.Delay}}
}

// Validate returns a *lease.FieldError unless each field is there, within
// MaxStatement and on one line.
func (s *Statement) Validate() error {
	for _, l := range s.Lines() {
		if err := lease.ValidateSentences(l[0], l[1], MaxStatement); err != nil {
			return err
		}
	}
	return nil
}

// Feature is a power that a backend has or lacks.
type Feature struct {
	Has  bool
	Name string
}

// Features returns the powers among the Caps, under the names that people are
// shown.
func (c *Caps) Features() []Feature {
	return []Feature{
		{c.FIFO, "first in, first out"},
		{c.OrderKey, "order keys"},
		{c.DeliveryFence, "fenced deliveries"},
		{c.ConfirmedAck, "confirmed acks"},
		{c.OutlivesConn, "deliveries outlive their connection"},
		{c.Dedup, "dedup"},
		{c.Commit, "commits"},
		{c.Extend, "extend"},
		{c.DeadLetter, "dead letters"},
		{c.Redrive, "redrive"},
		{c.DelayedNack, "delayed retries"},
		{c.FreeRelease, "a release is no attempt"},
		{c.OrderedRelease, "a release keeps its place"},
		{c.Delay, "delayed messages"},
		{c.CancelScheduled, "cancel of delayed messages"},
		{c.Schedules, "schedules"},
		{c.Priorities, "priorities"},
		{c.MessageTTL, "message TTL"},
		{c.QueueTTL, "queues that expire"},
		{c.MaxLength, "bounds of a queue"},
		{c.SingleActive, "single active consumer"},
		{c.Exclusive, "exclusive queues"},
		{c.AutoDelete, "auto-delete queues"},
		{c.FairDispatch, "even split among consumers"},
		{c.Streams, "streams"},
		{c.HeadersRoute, "headers exchanges"},
		{c.ExchangeBindings, "exchanges bound to exchanges"},
		{c.Alternate, "alternate exchanges"},
		{c.Mandatory, "unroutable is an error"},
		{c.CountsQueues, "receipts count queues"},
		{c.Stats, "statistics"},
		{c.Peek, "peek"},
		{c.Purge, "purge"},
		{c.IfEmpty, "delete if empty"},
		{c.Numbered, "message numbers"},
	}
}

// Profile is what one kind of queue of a backend has and assumes, known without
// reaching it. A driver's package returns all of its own from Profiles
// (QueueProfiles where it has locks too), from which docs/backends.md is made. A
// Conn's Caps are those of its profile but for what its URL and the version of
// its server change.
type Profile struct {
	Title string   // "RabbitMQ, quorum queues"
	URLs  []string // the schemes, as in "amqp://"
	Note  string   // what a user should know besides, one line; "": nothing
	Caps  Caps
	// Assumes says in words what Caps cannot.
	Assumes Statement
}
