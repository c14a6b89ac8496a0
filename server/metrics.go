package server

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Bounds of what a scrape costs.
const (
	maxMetricQueues = 1000 // queues with metrics of their own, the first by name
	scrapeTimeout   = 2 * time.Second
)

// metrics are a server's own; nothing is registered globally.
type metrics struct {
	registry *prometheus.Registry

	requests       *prometheus.HistogramVec
	conns          prometheus.Gauge
	grants         *prometheus.CounterVec
	lockWait       prometheus.Histogram
	losses         *prometheus.CounterVec
	released       prometheus.Counter
	renewed        prometheus.Counter
	deadlocks      prometheus.Counter
	watches        prometheus.Gauge
	lockWaiters    prometheus.Gauge
	receiveWaiters prometheus.Gauge
	published      *prometheus.CounterVec
	received       prometheus.Counter
	handedBack     prometheus.Counter
	settlements    *prometheus.CounterVec
	commits        *prometheus.CounterVec

	sessionMetrics
}

func newMetrics(s *Server) *metrics {
	waiters := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lockkeeper_waiters", Help: "Requests that wait for a lock, or for a message."}, []string{"for"})
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lockkeeper_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, long polls included. code is ok or the code of the problem.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"op", "code"}),
		conns:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockkeeper_connections", Help: "Open connections."}),
		grants: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_lock_grants_total", Help: "Locks granted."}, []string{"mode"}),
		lockWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lockkeeper_lock_wait_seconds", Help: "How long granted acquires waited, in their last request.",
			Buckets: prometheus.ExponentialBuckets(.0005, 2.5, 14),
		}),
		losses:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_lock_losses_total", Help: "Leases that a holder wanted to renew or release and had lost, by the code of the reason."}, []string{"code"}),
		released:       prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_lock_releases_total", Help: "Locks released by their holders."}),
		renewed:        prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_lock_renewals_total", Help: "Renewals of locks."}),
		deadlocks:      prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_lock_deadlocks_total", Help: "Requests for locks that were ended because they waited in a circle."}),
		watches:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockkeeper_lock_watches", Help: "Open watches of locks."}),
		lockWaiters:    waiters.WithLabelValues("lock"),
		receiveWaiters: waiters.WithLabelValues("message"),
		published:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_messages_published_total", Help: "Messages published, by outcome: ok, duplicate, or the code of the problem."}, []string{"code"}),
		received:       prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_messages_received_total", Help: "Messages delivered to clients."}),
		handedBack:     prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_messages_handed_back_total", Help: "Deliveries released because their client had gone."}),
		settlements:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_deliveries_settled_total", Help: "Deliveries settled, by verb and outcome."}, []string{"verb", "code"}),
		commits:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_commits_total", Help: "Commits, by outcome: ok, repeated, or the code of the problem."}, []string{"code"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lockkeeper_build_info", Help: "Always 1."}, []string{"version"})
	build.WithLabelValues(s.cfg.Version).Set(1)
	m.registry.MustRegister(m.requests, m.conns, m.grants, m.lockWait, m.losses, m.released, m.renewed, m.deadlocks, m.watches, waiters,
		m.published, m.received, m.handedBack, m.settlements, m.commits, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.sessionMetrics = newSessionMetrics(m.registry, m.requests, &s.sessions)
	if s.cfg.Queues != nil {
		m.registry.MustRegister(&queueCollector{conn: s.cfg.Queues})
	}
	return m
}

func codeOf(err error) string {
	if err == nil {
		return "ok"
	}
	return wire.ProblemOf(err).Code
}

func (m *metrics) granted(mode lockdriver.Mode, waited time.Duration) {
	m.grants.WithLabelValues(mode.String()).Inc()
	m.lockWait.Observe(waited.Seconds())
}

// ended counts the outcomes of renewals and releases.
func (m *metrics) ended(op string, outcomes []lockdriver.Outcome) {
	good := m.released
	if op == "renew" {
		good = m.renewed
	}
	for _, o := range outcomes {
		if o.Err == nil {
			good.Inc()
		} else {
			m.losses.WithLabelValues(codeOf(o.Err)).Inc()
		}
	}
}

func (m *metrics) publishedAll(rs []queuedriver.Receipt) {
	for i := range rs {
		code := codeOf(rs[i].Err)
		if rs[i].Duplicate {
			code = "duplicate"
		}
		m.published.WithLabelValues(code).Inc()
	}
}

func (m *metrics) settled(verb string, err error) {
	m.settlements.WithLabelValues(verb, codeOf(err)).Inc()
}

// queueCollector asks for the queues' statistics when it is scraped.
type queueCollector struct{ conn queuedriver.Conn }

var (
	queueLabels = []string{"queue"}
	queueUp     = prometheus.NewDesc("lockkeeper_queue_stats_up", "1 if the queues' statistics could be read.", nil, nil)
	queueGauges = []struct {
		desc *prometheus.Desc
		of   func(s *queuedriver.QueueStats) float64
	}{
		{prometheus.NewDesc("lockkeeper_queue_messages_ready", "Messages to be delivered now, or when their key's turn comes.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.Ready) }},
		{prometheus.NewDesc("lockkeeper_queue_messages_delayed", "Messages that wait for their time.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.Delayed) }},
		{prometheus.NewDesc("lockkeeper_queue_messages_in_flight", "Messages delivered and not settled.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.InFlight) }},
		{prometheus.NewDesc("lockkeeper_queue_bytes", "Bytes of bodies not acked yet.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.Bytes) }},
		{prometheus.NewDesc("lockkeeper_queue_oldest_age_seconds", "Age of the oldest message that is not acked.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return s.OldestAge.Seconds() }},
		{prometheus.NewDesc("lockkeeper_queue_consumers", "Consumers that received within the last minute.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.Consumers) }},
		{prometheus.NewDesc("lockkeeper_queue_receives_waiting", "Receives that wait for messages.", queueLabels, nil), func(s *queuedriver.QueueStats) float64 { return float64(s.Waiting) }},
	}
	queueCounters = []struct {
		desc *prometheus.Desc
		of   func(s *queuedriver.QueueStats) int64
	}{
		{prometheus.NewDesc("lockkeeper_queue_published_total", "Messages that the queue took.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Published }},
		{prometheus.NewDesc("lockkeeper_queue_duplicates_total", "Messages refused as seen before.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Duplicates }},
		{prometheus.NewDesc("lockkeeper_queue_delivered_total", "Deliveries.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Delivered }},
		{prometheus.NewDesc("lockkeeper_queue_acked_total", "Messages acked.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Acked }},
		{prometheus.NewDesc("lockkeeper_queue_nacked_total", "Deliveries nacked.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Nacked }},
		{prometheus.NewDesc("lockkeeper_queue_expired_total", "Deliveries whose lease ran out.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Expired }},
		{prometheus.NewDesc("lockkeeper_queue_dead_lettered_total", "Messages dead-lettered.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.DeadLettered }},
		{prometheus.NewDesc("lockkeeper_queue_dropped_total", "Messages rejected without a dead letter, or purged.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Dropped }},
		{prometheus.NewDesc("lockkeeper_queue_timed_out_total", "Messages that became older than their TTL.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.TimedOut }},
		{prometheus.NewDesc("lockkeeper_queue_overflowed_total", "Messages dropped from the head of a full queue.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Overflowed }},
		{prometheus.NewDesc("lockkeeper_queue_refused_total", "Publishes refused because the queue was full.", queueLabels, nil), func(s *queuedriver.QueueStats) int64 { return s.Refused }},
	}
)

// Describe implements prometheus.Collector.
func (q *queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- queueUp
	for _, g := range queueGauges {
		out <- g.desc
	}
	for _, c := range queueCounters {
		out <- c.desc
	}
}

// Collect implements prometheus.Collector.
func (q *queueCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, err := q.stats(ctx)
	up := 1.0
	if err != nil {
		up = 0
	}
	out <- prometheus.MustNewConstMetric(queueUp, prometheus.GaugeValue, up)
	for i := range stats {
		s := &stats[i]
		if !utf8.ValidString(s.Name) {
			continue // no label can be made of it
		}
		for _, g := range queueGauges {
			out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.of(s), s.Name)
		}
		for _, c := range queueCounters {
			out <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.of(s)), s.Name)
		}
	}
}

// stats asks the driver. Collect runs in a goroutine of the registry's, where
// a panic would end the daemon.
func (q *queueCollector) stats(ctx context.Context) (stats []queuedriver.QueueStats, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return q.conn.Stats(ctx, &queuedriver.StatsRequest{Max: maxMetricQueues})
}
