package queuetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func (s *suite) offsets(q string, want ...driver.Offset) {
	s.Helper()
	got, err := s.conn.Offsets(s.ctx, q, "")
	s.must(err, "Offsets")
	if !slices.Equal(got, want) {
		s.Errorf("the offsets are %v, want %v", got, want)
	}
}

func streamOffsets(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "a", "b", "c")
	s.offsets(q)
	save := func(c string, n uint64) {
		s.Helper()
		s.must(s.conn.SaveOffset(s.ctx, q, c, n), "SaveOffset")
	}
	save("b", 2)
	save("a", 4)
	s.offsets(q, driver.Offset{Consumer: "a", Offset: 4}, driver.Offset{Consumer: "b", Offset: 2})
	save("a", 4)
	save("a", 1)
	one, err := s.conn.Offsets(s.ctx, q, "a")
	s.must(err, "Offsets")
	if len(one) != 1 || one[0].Offset != 1 {
		s.Errorf("the offset of one is %v", one)
	}
	s.must(s.conn.DeleteOffset(s.ctx, q, "a"), "DeleteOffset")
	s.is(s.conn.DeleteOffset(s.ctx, q, "a"), lease.ErrNotFound, "DeleteOffset again")
	_, err = s.conn.Offsets(s.ctx, q, "a")
	s.is(err, lease.ErrNotFound, "Offsets of one that has none")
	s.offsets(q, driver.Offset{Consumer: "b", Offset: 2})
}

func streamOffsetLimit(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	for i := range driver.MaxOffsets {
		s.must(s.conn.SaveOffset(s.ctx, q, fmt.Sprint("c", i), 1), "SaveOffset")
	}
	s.is(s.conn.SaveOffset(s.ctx, q, "one more", 1), lease.ErrLimit, "SaveOffset of one more")
	s.must(s.conn.SaveOffset(s.ctx, q, "c7", 1), "SaveOffset of a known one")
	s.must(s.conn.DeleteOffset(s.ctx, q, "c7"), "DeleteOffset")
	s.must(s.conn.SaveOffset(s.ctx, q, "one more", 1), "SaveOffset when there is room")
}

func streamFields(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	now := time.Now()
	for what, r := range map[string]driver.StreamRequest{
		"no name":               {From: driver.FromFirst, Max: 1},
		"no start":              {Queue: q, Max: 1},
		"an unknown start":      {Queue: q, From: "middle", Max: 1},
		"two starts":            {Queue: q, From: driver.FromFirst, Offset: 1, Max: 1},
		"a time and an offset":  {Queue: q, From: driver.FromTime, Time: now, Offset: 1, Max: 1},
		"no time":               {Queue: q, From: driver.FromTime, Max: 1},
		"a time too early":      {Queue: q, From: driver.FromTime, Time: time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), Max: 1},
		"a time too late":       {Queue: q, From: driver.FromTime, Time: time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC), Max: 1},
		"no Max":                {Queue: q, From: driver.FromFirst},
		"Max past its limit":    {Queue: q, From: driver.FromFirst, Max: driver.MaxReceive + 1},
		"MaxBytes past its":     {Queue: q, From: driver.FromFirst, Max: 1, MaxBytes: driver.MaxReceiveBytes + 1},
		"MaxBytes below 0":      {Queue: q, From: driver.FromFirst, Max: 1, MaxBytes: -1},
		"Wait past its limit":   {Queue: q, From: driver.FromFirst, Max: 1, Wait: driver.MaxWait + time.Millisecond},
		"Wait below 0":          {Queue: q, From: driver.FromFirst, Max: 1, Wait: -time.Millisecond},
		"a name past its limit": {Queue: strings.Repeat("n", driver.MaxName+1), From: driver.FromFirst, Max: 1},
	} {
		_, err := s.conn.ReadStream(s.ctx, &r)
		s.field(err, what)
	}
	s.field(s.conn.SaveOffset(s.ctx, q, "c", 0), "offset 0")
	s.field(s.conn.SaveOffset(s.ctx, q, "", 1), "no consumer")
	long := strings.Repeat("c", driver.MaxConsumer)
	s.must(s.conn.SaveOffset(s.ctx, q, long, 1), "a consumer of MaxConsumer bytes")
	s.field(s.conn.SaveOffset(s.ctx, q, long+"c", 1), "a consumer past MaxConsumer")
	s.field(s.conn.DeleteOffset(s.ctx, q, ""), "DeleteOffset of no consumer")
	_, err := s.conn.Offsets(s.ctx, "", "")
	s.field(err, "Offsets of no stream")
}
