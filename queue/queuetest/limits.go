package queuetest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var limitChecks = []check{
	{"names", limitNames},
	{"message fields", limitMessages},
	{"headers", limitHeaders},
	{"batches", limitBatches},
	{"receive", limitReceive},
	{"settle", limitSettle},
	{"policies", limitPolicies},
	{"lists", limitLists},
}

// strange are texts that are names nowhere.
var strange = map[string]string{"NUL": "a\x00b", "newline": "a\nb", "DEL": "a\x7fb", "no UTF-8": "a\xffb", "cut UTF-8": "a\xc3"}

func limitNames(s *suite) {
	fill := func(n int) string { return s.prefix + strings.Repeat("n", n-len(s.prefix)) }
	for _, n := range []string{fill(driver.MaxName), s.prefix + "/%2F/../?#&=+ ü漢", s.prefix + " "} {
		s.declare(driver.Topology{
			Exchanges: []driver.Exchange{{Name: n, Kind: driver.Direct}},
			Queues:    []driver.Queue{{Name: n}},
			Bindings:  []driver.Binding{{Exchange: n, Queue: n, Key: strings.Repeat("k", driver.MaxKey)}},
		})
		s.bodies(driver.Route{Exchange: n, Key: strings.Repeat("k", driver.MaxKey)}, "x")
		s.want(n, "x")
		s.counted(n, func(driver.QueueStats) {})
	}
	bad := map[string]string{"too long": fill(driver.MaxName + 1), "empty": ""}
	for k, v := range strange {
		bad[k] = v
	}
	for what, n := range bad {
		_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{{Name: n}}}, false)
		s.field(err, "a queue name: "+what)
		_, err = s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{{Name: n, Kind: driver.Direct}}}, false)
		s.field(err, "an exchange name: "+what)
		r := s.request(n, 1)
		_, err = s.conn.Receive(s.ctx, &r)
		s.field(err, "Receive from a queue name: "+what)
		_, err = s.conn.Purge(s.ctx, n)
		s.invalid(s.caps.Purge, err, "Purge of a queue name: "+what)
		if n != "" {
			s.field(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: n}), "Delete of a queue name: "+what)
			s.field(s.outcome(driver.Publishing{Route: driver.Route{Exchange: n}, Message: body("x")}), "a route's exchange: "+what)
			s.field(s.outcome(driver.Publishing{Route: driver.Route{Key: n + strings.Repeat("k", len(n)/driver.MaxName)}, Message: body("x")}), "a routing key: "+what)
		}
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{{Name: "amq.mine", Kind: driver.Direct}}}, false)
	s.field(err, "a reserved name")
	_, err = s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{{Name: s.name("e"), Kind: "circular"}}}, false)
	s.field(err, "an unknown kind")
	s.field(s.conn.Delete(s.ctx, &driver.DeleteRequest{}), "Delete of nothing")
	s.field(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: "a", Exchange: "b"}), "Delete of two things")
}

func limitMessages(s *suite) {
	q := s.queue("q")
	long := strings.Repeat("x", driver.MaxProperty+1)
	for what, m := range map[string]*driver.Message{
		"ID":               {ID: strings.Repeat("x", driver.MaxID+1)},
		"order key":        {OrderKey: strings.Repeat("x", driver.MaxOrderKey+1)},
		"content type":     {ContentType: long},
		"content encoding": {ContentEncoding: long},
		"correlation id":   {CorrelationID: long},
		"reply to":         {ReplyTo: long},
		"type":             {Type: long},
		"app id":           {AppID: long},
		"user id":          {UserID: long},
		"priority":         {Priority: driver.MaxPriority + 1},
		"delay":            {Delay: driver.MaxDelay + 1},
		"negative delay":   {Delay: -1},
		"TTL":              {TTL: driver.MaxDelay + 1},
		"negative TTL":     {TTL: -1},
		"two delays":       {Delay: 1, NotBefore: time.Now()},
		"year 1969":        {NotBefore: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)},
		"year 2201":        {NotBefore: time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC)},
		"ID with NUL":      {ID: "a\x00"},
		"ID no UTF-8":      {ID: "a\xff"},
	} {
		s.refusedMessage(q, m, "past the limit: "+what)
	}
	if s.delays(q) {
		most := s.caps.LongestDelay()
		s.publish(to(q), &driver.Message{Delay: most})
		s.refusedMessage(q, &driver.Message{Delay: most + time.Millisecond}, "past the backend's limit: delay")
	}
}

func nested(depth int) any {
	if depth == 0 {
		return int64(1)
	}
	return driver.Headers{"d": nested(depth - 1)}
}

func manyHeaders(n int) driver.Headers {
	h := driver.Headers{}
	for i := range n {
		h[fmt.Sprint("h", i)] = int64(i)
	}
	return h
}

func limitHeaders(s *suite) {
	q := s.queue("q")
	for what, h := range map[string]driver.Headers{
		"count": manyHeaders(driver.MaxHeaders),
		"bytes": {"k": strings.Repeat("x", driver.MaxHeaderBytes-1)},
		"depth": {"a": nested(driver.MaxHeaderDepth - 1)},
		"key":   {strings.Repeat("k", driver.MaxKey): true},
	} {
		rs := s.send(s.caps.Mandatory, to(q), &driver.Message{Headers: h})
		s.must(rs[0].Err, "at the limit: headers' "+what)
		s.ack(s.receive(q, 1)[0])
	}
	for what, h := range map[string]driver.Headers{
		"count":     manyHeaders(driver.MaxHeaders + 1),
		"bytes":     {"k": strings.Repeat("x", driver.MaxHeaderBytes)},
		"depth":     {"a": nested(driver.MaxHeaderDepth)},
		"key":       {strings.Repeat("k", driver.MaxKey+1): true},
		"empty key": {"": true},
		"NaN":       {"f": math.NaN()},
		"infinity":  {"f": math.Inf(1)},
		"type":      {"c": struct{}{}},
		"nil":       {"n": nil},
		"text":      {"t": "a\xff"},
		"time":      {"t": time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		s.refusedMessage(q, &driver.Message{Headers: h}, "past the limit: headers' "+what)
	}
}

func limitBatches(s *suite) {
	q := s.queue("q")
	m := &driver.Message{}
	ps := make([]driver.Publishing, driver.MaxBatch+1)
	for i := range ps {
		ps[i] = driver.Publishing{Route: to(q), Message: m}
	}
	_, err := s.conn.Publish(s.ctx, ps)
	s.field(err, "a batch of one message more")
	s.none(q)
	rs, err := s.conn.Publish(s.ctx, ps[:driver.MaxBatch])
	if err != nil || len(rs) != driver.MaxBatch {
		s.Errorf("the largest batch: %d receipts, %v", len(rs), err)
	}
	_, err = s.conn.Settle(s.ctx, make([]driver.Settlement, driver.MaxBatch+1))
	s.field(err, "a Settle of one more")
	big := &driver.Message{Body: make([]byte, driver.MaxBatchBytes/8)}
	ps = ps[:9]
	for i := range ps {
		ps[i].Message = big
	}
	_, err = s.conn.Publish(s.ctx, ps)
	s.field(err, "a batch of too many bytes")
}

func limitReceive(s *suite) {
	q := s.queue("q")
	for what, change := range map[string]func(*driver.ReceiveRequest){
		"max 0":            func(r *driver.ReceiveRequest) { r.Max = 0 },
		"max -1":           func(r *driver.ReceiveRequest) { r.Max = -1 },
		"max":              func(r *driver.ReceiveRequest) { r.Max = driver.MaxReceive + 1 },
		"max bytes":        func(r *driver.ReceiveRequest) { r.MaxBytes = driver.MaxReceiveBytes + 1 },
		"max bytes -1":     func(r *driver.ReceiveRequest) { r.MaxBytes = -1 },
		"wait":             func(r *driver.ReceiveRequest) { r.Wait = driver.MaxWait + 1 },
		"ahead":            func(r *driver.ReceiveRequest) { r.Ahead = driver.MaxAhead + 1 },
		"negative ahead":   func(r *driver.ReceiveRequest) { r.Ahead = -1 },
		"negative wait":    func(r *driver.ReceiveRequest) { r.Wait = -1 },
		"short lease":      func(r *driver.ReceiveRequest) { r.Lease = s.caps.MinLease - 1 },
		"long lease":       func(r *driver.ReceiveRequest) { r.Lease = s.caps.MaxLease + 1 },
		"negative lease":   func(r *driver.ReceiveRequest) { r.Lease = -1 },
		"no consumer":      func(r *driver.ReceiveRequest) { r.Consumer = "" },
		"consumer":         func(r *driver.ReceiveRequest) { r.Consumer = strings.Repeat("c", driver.MaxConsumer+1) },
		"strange consumer": func(r *driver.ReceiveRequest) { r.Consumer = "a\x00" },
	} {
		r := s.request(q, 1)
		change(&r)
		_, err := s.conn.Receive(s.ctx, &r)
		s.field(err, "past the limit: "+what)
	}
	s.bodies(to(q), "a")
	r := driver.ReceiveRequest{
		Queue: q, Consumer: strings.Repeat("c", driver.MaxConsumer), Max: driver.MaxReceive,
		MaxBytes: driver.MaxReceiveBytes, Wait: driver.MaxWait, Lease: s.caps.MaxLease,
	}
	if ds := s.fetch(r); len(ds) != 1 || ds[0].TTL != s.caps.MaxLease {
		s.Errorf("at every limit: got %d messages", len(ds))
	}
}

func limitSettle(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	for what, st := range map[string]driver.Settlement{
		"no verb":        {},
		"verb":           {Verb: driver.Extend + 1},
		"delay":          {Verb: driver.Nack, Delay: driver.MaxDelay + 1},
		"negative delay": {Verb: driver.Nack, Delay: -1},
		"reason":         {Verb: driver.Reject, Reason: strings.Repeat("r", driver.MaxReason+1)},
		"strange reason": {Verb: driver.Reject, Reason: "a\xff"},
		"short ttl":      {Verb: driver.Extend, TTL: s.caps.MinLease - 1},
		"long ttl":       {Verb: driver.Extend, TTL: s.caps.MaxLease + 1},
	} {
		if st.TTL == 0 && strings.HasSuffix(what, "ttl") {
			continue // a MinLease of 1 ns makes 0, which is the default
		}
		st.Ref = d.Ref
		_, err := s.conn.Settle(s.ctx, []driver.Settlement{{Ref: d.Ref, Verb: driver.Ack}, st})
		s.field(err, "past the limit: "+what)
	}
	// None of that settled it.
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Reason: strings.Repeat("r", driver.MaxReason)})
	d = s.one(q, "a")
	if s.caps.DelayedNack {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: s.caps.LongestDelay()})
	}
}

func limitPolicies(s *suite) {
	dead := s.queue("dead")
	dl := &driver.Route{Key: dead}
	for what, q := range map[string]driver.Queue{
		"short lease":             {Lease: s.caps.MinLease - 1},
		"long lease":              {Lease: s.caps.MaxLease + 1},
		"delivery limit":          {DeadLetter: dl, DeliveryLimit: driver.MaxDeliveryLimit + 1},
		"negative delivery limit": {DeadLetter: dl, DeliveryLimit: -1},
		"limit without dead":      {DeliveryLimit: 1},
		"its own dead letter":     {DeadLetter: &driver.Route{Key: s.name("q")}},
		"dead letter without key": {DeadLetter: &driver.Route{}},
		"dead letter's long key":  {DeadLetter: &driver.Route{Exchange: "e", Key: strings.Repeat("k", driver.MaxKey+1)}},
		"backoff":                 {Backoff: driver.Backoff{Max: s.caps.LongestDelay() + time.Millisecond}},
		"backoff upside down":     {Backoff: driver.Backoff{Min: 2, Max: 1}},
		"negative backoff":        {Backoff: driver.Backoff{Min: -1, Max: 1}},
		"dedup window":            {DedupWindow: driver.MaxDedupWindow + 1},
		"negative dedup window":   {DedupWindow: -1},
	} {
		if q.Lease == 0 && what == "short lease" {
			continue // a MinLease of 1 ns makes 0, which is the default
		}
		q.Name = s.name("q")
		_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{q}}, false)
		s.field(err, "past the limit: "+what)
	}
	if own := s.own(); len(own.Queues) != 1 {
		s.Errorf("refused declarations left %+v", own.Queues)
	}
	edge := driver.Queue{Name: s.name("q"), Lease: s.caps.MaxLease, Backoff: driver.Backoff{Min: s.caps.LongestDelay(), Max: s.caps.LongestDelay()}}
	if s.caps.DeadLetter {
		edge.DeadLetter, edge.DeliveryLimit = dl, driver.MaxDeliveryLimit
	}
	if s.caps.Dedup {
		edge.DedupWindow = driver.MaxDedupWindow
	}
	s.declare(driver.Topology{Queues: []driver.Queue{edge}})
}

func limitLists(s *suite) {
	q := s.queue("q")
	for _, n := range []int{-1, driver.MaxPeek + 1} {
		_, err := s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: q, Max: n})
		s.invalid(s.caps.Peek, err, fmt.Sprint("Peek of ", n))
	}
	for _, n := range []int{-1, driver.MaxList + 1} {
		_, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Max: n})
		s.invalid(s.caps.Stats, err, fmt.Sprint("Stats of ", n))
	}
	for _, n := range []int{-1, driver.MaxRedrive + 1} {
		_, err := s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: q, Max: n})
		s.invalid(s.caps.Redrive, err, fmt.Sprint("Redrive of ", n))
	}
}
