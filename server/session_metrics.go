package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
)

// Directions of what a session carries.
const (
	incoming = iota
	outgoing
)

// sessionMetrics are those of the multiplexed sessions. What is counted for
// each frame is looked up beforehand.
type sessionMetrics struct {
	sessions       prometheus.Gauge
	sessionCloses  *prometheus.CounterVec
	sessionBatches [2]prometheus.Counter
	sessionBytes   [2]prometheus.Counter

	frames    map[frame.Kind]prometheus.Counter
	durations map[frame.Kind]prometheus.Observer // of requests that succeed
	requests  *prometheus.HistogramVec
}

// sessionOps are the labels of requests of a session: those that the same have
// over HTTP. A call is counted by the route that it is for.
var sessionOps = map[frame.Kind]string{
	frame.Acquire: "acquireLock", frame.Renew: "renewLocks", frame.Release: "releaseLocks",
	frame.Publish: "publish", frame.Receive: "receive", frame.Settle: "settle",
}

func newSessionMetrics(registry *prometheus.Registry, requests *prometheus.HistogramVec, open *sessions) sessionMetrics {
	directions := []string{"in", "out"}
	batches := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_session_batches_total", Help: "Batches of frames."}, []string{"direction"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_session_bytes_total", Help: "Bytes of batches."}, []string{"direction"})
	frames := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_session_frames_total", Help: "Frames, by what they are."}, []string{"direction", "kind"})
	m := sessionMetrics{
		sessions:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockkeeper_sessions", Help: "Open multiplexed sessions."}),
		sessionCloses: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_session_closes_total", Help: "Sessions that ended, by reason: client (it closed), lost (the connection broke), silent, slow (it did not take its answers), violation (it broke the protocol), limit, shutdown."}, []string{"reason"}),
		frames:        map[frame.Kind]prometheus.Counter{},
		durations:     map[frame.Kind]prometheus.Observer{},
		requests:      requests,
	}
	unsent := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockkeeper_session_unsent_bytes", Help: "Bytes of answers that wait for the sessions' clients to take them."},
		func() float64 { return float64(open.unsent()) })
	registry.MustRegister(m.sessions, m.sessionCloses, batches, bytes, frames, unsent)
	for i, d := range directions {
		m.sessionBatches[i] = batches.WithLabelValues(d)
		m.sessionBytes[i] = bytes.WithLabelValues(d)
	}
	for _, k := range frame.Kinds() {
		d := directions[outgoing]
		if k.FromClient() {
			d = directions[incoming]
		}
		m.frames[k] = frames.WithLabelValues(d, k.String())
		if op := sessionOps[k]; op != "" {
			m.durations[k] = requests.WithLabelValues(op, "ok")
		}
	}
	return m
}

// counted counts a frame, either way.
func (m *sessionMetrics) counted(k frame.Kind) {
	if c := m.frames[k]; c != nil {
		c.Inc()
	}
}

// answered observes how long a request took.
func (m *sessionMetrics) answered(k frame.Kind, err error, received time.Time) {
	o := m.durations[k]
	if o == nil {
		return // a call is observed by the HTTP side
	}
	if err != nil {
		o = m.requests.WithLabelValues(sessionOps[k], codeOf(err))
	}
	o.Observe(time.Since(received).Seconds())
}
