package locktest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var outageCases = []testCase{
	{"restart_keeps_grants_and_tokens", restartKeeps},
	{"restart_keeps_the_line", restartLine},
	{"cut_off_holder_is_told_first", cutOff},
}

// durable reports whether the backend can be restarted, and fails the case if
// it claims what the harness cannot show.
func (s *suite) durable() bool {
	if s.caps.Durable && s.h.Restart == nil {
		s.Errorf("the backend claims that grants survive a restart, and the harness has no Restart")
	}
	return s.caps.Durable && s.h.Restart != nil
}

func restartKeeps(s *suite) {
	if !s.durable() {
		return
	}
	live, dead, gone := s.request("live"), s.request("dead"), s.request("gone")
	dead.Name, dead.TTL = s.name+"/dead", s.short
	gone.Name = s.name + "/gone"
	gl, gd, gg := s.grant(s.conn, live), s.grant(s.conn, dead), s.grant(s.conn, gone)
	s.release(s.conn, ref(gone, gg))
	deadSent := time.Now()
	s.h.Restart(s.TB)
	c := s.open()

	again := *live
	again.ID = "a second request"
	_, _, err := c.Acquire(s.ctx, &again)
	s.refused("another request of the live holder", err, driver.ErrAlreadyHeld)
	try := s.request("rival")
	_, _, err = c.Acquire(s.ctx, try)
	s.refused("a try of the held name", err, driver.ErrHeld)
	if err := one(c.Renew(s.ctx, []driver.Ref{ref(live, gl)})); err != nil {
		s.Errorf("Renew of a grant from before the restart: %v", err)
	}
	if s.caps.Resume {
		again.Resume = true
		if g, _, err := c.Acquire(s.ctx, &again); err != nil || g == nil || !g.Resumed || g.Token != gl.Token {
			s.Errorf("Resume after the restart: %+v, %v; want token %d", g, err, gl.Token)
		}
	}
	for _, r := range []*driver.Request{gone, dead} {
		next := s.queued("next")
		next.Name = r.Name
		if g := s.mustAwait(c, next); g.Token <= max(gl.Token, gd.Token, gg.Token) {
			s.Errorf("token %d granted after the restart, %d before", g.Token, max(gl.Token, gd.Token, gg.Token))
		}
	}
	// What is left of a TTL may begin anew, but never be cut.
	if after := time.Since(deadSent); after < s.short-s.short/4 {
		s.Errorf("a lease of %v from before the restart was granted again after %v", s.short, after)
	}
}

func restartLine(s *suite) {
	if !s.durable() {
		return
	}
	r := s.request("holder")
	g := s.grant(s.conn, r)
	waiters := make([]*driver.Request, 5)
	for i := range waiters {
		waiters[i] = s.queued(fmt.Sprint("waiter ", i))
		s.line(s.conn, waiters[i])
	}
	s.h.Restart(s.TB)
	c := s.open()
	newcomer := s.queued("newcomer")
	s.line(c, newcomer)
	for i := range waiters { // they come back with their tickets, the last first
		w := waiters[len(waiters)-1-i]
		s.line(c, w)
	}
	granted := make(chan string, len(waiters)+1)
	var wg sync.WaitGroup
	for _, w := range slices.Concat(waiters, []*driver.Request{newcomer}) {
		wg.Go(func() {
			g, err := await(s.ctx, c, w)
			granted <- w.Holder
			if err == nil {
				err = one(c.Release(s.ctx, []driver.Ref{ref(w, g)}))
			}
			if err != nil {
				s.Errorf("%s: %v", w.Holder, err)
			}
		})
	}
	s.until("all wait", func() bool { in := s.infoBy(c, s.name); return in != nil && in.Waiting == len(waiters)+1 })
	if err := one(c.Release(s.ctx, []driver.Ref{ref(r, g)})); err != nil {
		s.Errorf("Release after the restart: %v", err)
	}
	wg.Wait()
	for i := range len(waiters) + 1 {
		want := "newcomer"
		if i < len(waiters) {
			want = waiters[i].Holder
		}
		if got := <-granted; s.caps.FIFO && got != want {
			s.Errorf("grant %d after the restart went to %s; want %s", i, got, want)
		}
	}
}

// cutOff: a holder that reaches the backend no more knows of its loss before
// the next is granted, though its renewals hang.
func cutOff(s *suite) {
	if s.h.Cut == nil {
		return
	}
	c := s.h.Open(s.TB)
	l := lock.New(c, nil)
	le, err := l.Acquire(s.ctx, s.name, &lock.Options{TTL: s.short})
	if err != nil {
		s.Fatalf("Acquire: %v", err)
	}
	s.h.Cut(s.TB, c, true)
	next := s.mustAwait(s.conn, s.queued("next"))
	if s.caps.Loss == driver.LossBeforeGrant && le.Check() == nil {
		s.Errorf("the rival was granted while the cut-off holder still believed to hold")
	}
	s.ends(le)
	s.refused("cause", context.Cause(le.Context()), lease.ErrExpired)
	if next.Token <= le.Token() {
		s.Errorf("token %d granted after %d", next.Token, le.Token())
	}
	s.h.Cut(s.TB, c, false)
	if err := l.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
}
