package server

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// readyTimeout bounds the look at the backends by /readyz.
const readyTimeout = 2 * time.Second

func serveCapabilities(c *call) error { return c.reply(c.s.capabilities(c.session)) }

func (s *Server) capabilities(ss *session) *wire.Capabilities {
	out := &wire.Capabilities{Service: wire.Service, Version: s.cfg.Version, Time: time.Now().UTC()}
	if s.cfg.Locks != nil {
		out.Locks = wire.NewLockCaps(s.lockCaps())
	}
	if s.cfg.Queues != nil {
		out.Queues = wire.NewQueueCaps(s.queueCaps(ss))
		out.Queues.ExclusiveSession = s.exclusive()
	}
	return out
}

// serveHealth says that the process answers, and nothing else: a restart
// would not heal a backend that is away.
func serveHealth(c *call) error { return c.plain("ok\n") }

// serveReady says whether requests would be served now.
func serveReady(c *call) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), readyTimeout)
	defer cancel()
	if err := c.s.ready(ctx); err != nil {
		// Whoever asks need not have a token: details are for the log.
		c.s.cfg.Logger.Warn("not ready", "request", c.id, "error", err)
		return wire.NewProblem(wire.CodeUnavailable, "", "not ready; the daemon's log says why")
	}
	return c.plain("ready\n")
}

func (c *call) plain(s string) error {
	c.code = "ok"
	return c.write(http.StatusOK, "text/plain; charset=utf-8", []byte(s))
}

func serveOpenAPI(c *call) error {
	c.code = "ok"
	return c.write(http.StatusOK, "application/json", c.s.openapi)
}

func serveMetrics(c *call) error {
	families, err := c.s.metrics.registry.Gather()
	if err != nil {
		return err
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	c.code = "ok"
	return c.write(http.StatusOK, string(format), b.Bytes())
}
