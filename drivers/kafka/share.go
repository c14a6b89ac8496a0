package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/lease"
)

// share is what a source of a work queue has instead of a consumer group: a
// member of a share group. The brokers lock each message for whom they give it
// to, and count how often they did. A leg is the member's session with one
// broker. The client library's own consumer is of no use: it accepts whatever is
// not settled when more is read.
type share struct {
	s      *source
	group  string
	member string
	cl     *kgo.Client // has no consumer: requests only
	adm    *kadm.Client
	wg     sync.WaitGroup
	stir   chan struct{} // a token: the topics, or the leaders, have changed

	// Of the goroutine that keeps the membership.
	epoch     int32
	told      []string // the topics that the group knows of
	toldSince time.Time

	// The source's mu guards what follows.
	limit    int           // after so many deliveries the brokers forget a message
	lockFor  time.Duration // how long they lock one
	assigned map[[16]byte][]int32
	stale    bool // parts have to be made anew of assigned
	legs     map[int32]*leg
	parts    map[place]*sharePart
	ahead    map[string]int // by consumer: what it lets be ready
	moving   int            // entries that are copied before anybody sees them
}

// sharePart is a partition from which messages are, or were, given to this
// member.
type sharePart struct {
	*partition
	topicID  [16]byte
	leg      *leg
	assigned bool
	fresh    int   // looks after which it is known to be loaded by its broker
	end      int64 // of its messages, as last asked for
	entries  map[int64]*entry
}

// Of a membership.
const (
	eagerBeat   = 50 * time.Millisecond // while the group has not decided
	eagerFor    = 3 * time.Second       // it may have nothing for this member
	beatTrouble = 500 * time.Millisecond
	freshLooks  = 4
)

// joinShare makes a source a member of a share group.
func (s *source) joinShare(q *queueState) (*source, error) {
	c := s.c
	cl, err := kgo.NewClient(append(c.common[:len(c.common):len(c.common)], kgo.WithContext(context.Background()))...) // it says farewell
	if err != nil {
		s.cancel()
		return nil, lease.Invalidf("client", "is refused: %v", err)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	sh := &share{
		s: s, group: groupName(q.spec.Name, q.born), member: base64.RawURLEncoding.EncodeToString(id[:]), cl: cl, adm: kadm.NewClient(cl),
		stir: make(chan struct{}, 1), limit: usualDeliveryLimit, lockFor: MaxShareLease, legs: map[int32]*leg{}, parts: map[place]*sharePart{}, ahead: map[string]int{},
	}
	s.share, s.cl = sh, cl
	close(s.polled)
	sh.wg.Add(2)
	started := 0
	for _, f := range [...]func(){sh.attend, sh.keep} {
		if c.work.Start(func() { defer sh.wg.Done(); f() }) {
			started++
		}
	}
	if started < 2 || !c.work.Start(s.expire) {
		s.cancel()
		for range 2 - started {
			sh.wg.Done()
		}
		sh.wg.Wait()
		cl.Close()
		return nil, lease.ErrClosed
	}
	return s, nil
}

// attend keeps the membership until the source is stopped.
func (sh *share) attend() {
	if limit, err := sh.s.c.deliveryLimit(sh.s.ctx, sh.group); err == nil {
		sh.s.mu.Lock()
		sh.limit = limit
		sh.s.mu.Unlock()
	}
	for sh.s.ctx.Err() == nil {
		pause, err := sh.beat(sh.s.ctx)
		if err == nil {
			err = sh.arrange(sh.s.ctx)
		}
		if err != nil && sh.s.ctx.Err() == nil {
			sh.complain(err)
			pause = beatTrouble
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-sh.stir:
		case <-sh.s.ctx.Done():
		}
		timer.Stop()
	}
}

// complain logs trouble, and ends the source if it is for good.
func (sh *share) complain(err error) {
	for _, final := range [...]error{kerr.UnsupportedVersion, kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed} {
		if errors.Is(err, final) {
			sh.s.c.drop(sh.s)
			sh.s.abandon(named("queue", sh.s.spec.Name, classify(err, lease.ErrUnavailable)))
		}
	}
	if kerr.IsRetriable(err) {
		sh.s.c.o.Logger.Debug("a share group", "queue", sh.s.spec.Name, "error", err)
		return
	}
	sh.s.complain("", 0, err)
}

// beat says to the group that the member is there, and takes what it is assigned.
func (sh *share) beat(ctx context.Context) (pause time.Duration, err error) {
	sh.s.mu.Lock()
	topics := slices.Sorted(maps.Keys(sh.s.feeds))
	sh.s.mu.Unlock()
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = sh.group, sh.member, sh.epoch
	changed := !slices.Equal(topics, sh.told)
	if changed || sh.epoch == 0 {
		req.SubscribedTopicNames = topics
	}
	resp, err := req.RequestWith(ctx, sh.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedMemberEpoch), errors.Is(err, kerr.GroupIDNotFound):
		sh.epoch = 0
		return eagerBeat, nil
	case err != nil:
		return 0, err
	}
	if changed {
		sh.told, sh.toldSince = topics, time.Now()
	}
	sh.epoch = resp.MemberEpoch
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	if resp.Assignment != nil {
		sh.assigned = make(map[[16]byte][]int32, len(resp.Assignment.TopicPartitions))
		for _, tp := range resp.Assignment.TopicPartitions {
			sh.assigned[tp.TopicID] = tp.Partitions
		}
		sh.stale = true
	}
	if !sh.s.joined {
		return eagerBeat, nil
	}
	return time.Duration(resp.HeartbeatIntervalMillis) * time.Millisecond, nil
}

// arrange makes parts and legs of what is assigned, where that has changed.
func (sh *share) arrange(ctx context.Context) error {
	s := sh.s
	s.mu.Lock()
	stale := sh.stale
	sh.stale = false
	s.mu.Unlock()
	if stale {
		details, err := sh.adm.ListTopics(ctx, sh.told...)
		if err != nil {
			s.mu.Lock()
			sh.stale = true
			s.mu.Unlock()
			return err
		}
		s.mu.Lock()
		sh.place(details)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joined && (sh.complete() || time.Since(sh.toldSince) > eagerFor) {
		s.joined = true
		s.wakeAll()
	}
	return nil
}

// complete reports whether the member has a part of each topic; mu is held.
func (sh *share) complete() bool {
	has := map[string]bool{}
	for at, p := range sh.parts {
		has[at.topic] = has[at.topic] || p.assigned
	}
	for topic := range sh.s.feeds {
		if !has[topic] {
			return false
		}
	}
	return true
}

// place takes over where the partitions are that are assigned; mu is held.
func (sh *share) place(details kadm.TopicDetails) {
	wanted := map[place]bool{}
	for _, d := range details {
		for _, id := range sh.assigned[d.ID] {
			leader := d.Partitions[id].Leader
			if _, known := d.Partitions[id]; !known || leader < 0 || sh.s.feeds[d.Topic] == nil {
				sh.stale = true // not every broker knows yet
				continue
			}
			at := place{d.Topic, id}
			wanted[at] = true
			sh.assign(at, d.ID, leader)
		}
	}
	for at, p := range sh.parts {
		if p.assigned && !wanted[at] { // what is in flight can be settled still
			p.assigned = false
			signal(p.leg.wake)
		}
		if !p.assigned && len(p.entries) == 0 {
			sh.s.dropPart(p.partition)
			delete(sh.parts, at)
		}
	}
}

// assign takes a partition; mu is held. Locks end with the leadership.
func (sh *share) assign(at place, topicID [16]byte, leader int32) {
	p := sh.parts[at]
	if p != nil && (p.leg.broker != leader || p.topicID != topicID) {
		for _, e := range p.entries {
			sh.lose(e)
		}
		sh.s.dropPart(p.partition)
		signal(p.leg.wake)
		p = nil
	}
	if p == nil {
		p = &sharePart{partition: &partition{place: at}, topicID: topicID, fresh: freshLooks, entries: map[int64]*entry{}}
		sh.parts[at], sh.s.parts[at] = p, p.partition
	}
	if p.leg = sh.legs[leader]; p.leg == nil {
		l := newLeg(sh, leader)
		p.leg, sh.legs[leader] = l, l
		sh.wg.Add(1)
		if !sh.s.c.work.Start(func() { defer sh.wg.Done(); l.run() }) {
			sh.wg.Done()
		}
	}
	if !p.assigned {
		p.assigned = true
		signal(p.leg.wake)
	}
}

// moved has the leaders looked for again.
func (sh *share) moved() {
	sh.s.mu.Lock()
	sh.stale = true
	sh.s.mu.Unlock()
	signal(sh.stir)
}

// resubscribe says to the group what the source reads now, and gives back what
// it had ready of topics that are not the queue's any more.
func (sh *share) resubscribe(gone []string) {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range sh.parts {
		if !slices.Contains(gone, at.topic) {
			continue
		}
		for _, e := range p.entries {
			if e.state == ready {
				sh.tell(e, kindAccept)
				sh.lose(e)
			}
		}
	}
	signal(sh.stir)
}

// lose forgets an entry that is not this member's any more; mu is held.
func (sh *share) lose(e *entry) {
	switch e.state {
	case held:
		sh.s.unlend(e)
		e.p.settled()
	case settling:
		e.p.settled()
	case delayed:
		if e.timer != nil {
			e.timer.Stop()
		}
	case done:
		return
	case blocked, ready:
	}
	if p := sh.parts[e.p.place]; p != nil && p.entries[e.offset] == e {
		delete(p.entries, e.offset)
	}
	sh.s.finish(e)
}

// leave leaves the group: what is in flight goes back to the brokers at once.
func (sh *share) leave(why error) {
	sh.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	sh.s.mu.Lock()
	legs := slices.Collect(maps.Values(sh.legs))
	sh.s.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range legs {
		wg.Go(func() { l.farewell(ctx) })
	}
	wg.Wait()
	sh.s.abandon(why)
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = sh.group, sh.member, -1
	if _, err := req.RequestWith(ctx, sh.cl); err != nil {
		sh.s.c.o.Logger.Debug("a group was left without a farewell", "queue", sh.s.spec.Name, "error", err)
	}
	sh.cl.Close()
}
