// Package server is the daemon's HTTP face: JSON over any lock driver and any
// queue driver.
//
// It decodes a request, checks who may send it, calls the driver with the
// client's own holder id and TTL, and encodes the answer. It keeps no lease
// alive: it never renews for a client, so that a dead client's lease ends.
//
// The interface is described by the OpenAPI document that GET /openapi.json
// serves, which is made from the same table of routes and the same types that
// serve the requests. Errors are problem details (RFC 9457) with a stable code.
//
// # Who may ask
//
// On a loopback address everybody on the machine may, except a browser on
// behalf of another site: requests with a foreign Origin, a foreign
// Sec-Fetch-Site or a Host that is not a loopback name are refused (so neither
// a form nor DNS rebinding gets through), and no CORS header is ever sent.
// On any other address Serve wants bearer tokens or Config.Insecure.
//
// # Clients that vanish
//
// A waiting acquire whose client goes away leaves the driver's Wait; the
// backend keeps its place for Caps.DeadWaiter. A grant that was made already
// stays until its TTL, because a repeat of the request must find it. Messages
// leased for a receive whose client has gone are released.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Config of a Server. The zero value of a field means its default.
type Config struct {
	// Locks and Queues are what is served; the caller closes them after
	// Serve has returned. With one of them nil its endpoints answer
	// unsupported.
	Locks  lockdriver.Conn
	Queues queuedriver.Conn

	Version string       // shown by /v1/capabilities and in metrics
	Logger  *slog.Logger // nil: none. Requests are logged at debug.

	Tokens   []string // any of these as bearer token admits; none: everybody
	Insecure bool     // serve without tokens on an address that is not loopback
	Hosts    []string // further values of Host to accept, without port
	TLS      *tls.Config

	MaxConns      int           // connections; 0: DefaultMaxConns
	MaxWaiters    int           // requests that wait for a lock or a message; 0: DefaultMaxWaiters
	MaxBuffered   int64         // bytes of request bodies held at once; decoding takes about as much again; 0: DefaultMaxBuffered
	MaxAnswers    int64         // bytes of messages' bodies in answers under way; encoding takes about three times that; 0: DefaultMaxAnswers
	HeaderTimeout time.Duration // for a request's header to arrive; 0: DefaultHeaderTimeout
	BodyTimeout   time.Duration // for its body to arrive, and as much more as its length takes at MinRate; 0: DefaultBodyTimeout
	WriteTimeout  time.Duration // for the client to take an answer, and as much more as its length takes at MinRate; 0: DefaultWriteTimeout
	MinRate       int64         // bytes a second; 0: DefaultMinRate
	IdleTimeout   time.Duration // of a connection between requests; 0: DefaultIdleTimeout
	DrainTimeout  time.Duration // how long requests under way may go on when Serve's ctx ends; 0: DefaultDrainTimeout
}

// Defaults and limits of a Server.
const (
	DefaultMaxConns      = 4096
	DefaultMaxWaiters    = 4096
	DefaultMaxBuffered   = 512 << 20
	DefaultMaxAnswers    = 512 << 20
	DefaultMinRate       = 256 << 10
	DefaultHeaderTimeout = 10 * time.Second
	DefaultBodyTimeout   = time.Minute
	DefaultWriteTimeout  = time.Minute
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultDrainTimeout  = 10 * time.Second

	MaxHeaderBytes = 64 << 10 // of a request's header
	MinToken       = 16       // bytes of a bearer token
)

func (c *Config) fill() error {
	if c.Locks == nil && c.Queues == nil {
		return errors.New("server: neither locks nor queues to serve")
	}
	for _, t := range c.Tokens {
		if err := checkToken(t); err != nil {
			return err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.MaxConns, DefaultMaxConns)
	setDefault(&c.MaxWaiters, DefaultMaxWaiters)
	setDefault(&c.MaxBuffered, DefaultMaxBuffered)
	setDefault(&c.MaxAnswers, DefaultMaxAnswers)
	setDefault(&c.MinRate, DefaultMinRate)
	setDefault(&c.HeaderTimeout, DefaultHeaderTimeout)
	setDefault(&c.BodyTimeout, DefaultBodyTimeout)
	setDefault(&c.WriteTimeout, DefaultWriteTimeout)
	setDefault(&c.IdleTimeout, DefaultIdleTimeout)
	setDefault(&c.DrainTimeout, DefaultDrainTimeout)
	return nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Server serves one pair of drivers. Its methods may be called concurrently.
type Server struct {
	cfg      Config
	http     *http.Server
	guard    *guard
	metrics  *metrics
	locksCan lockdriver.Caps              // of Config.Locks
	routes   map[string]map[string]*route // by path and method
	openapi  []byte

	drain    context.Context // ends when Shutdown begins; ends the long polls
	startEnd context.CancelFunc

	buffered atomic.Int64
	answers  *semaphore.Weighted // of Config.MaxAnswers
	waiters  atomic.Int64
	requests atomic.Uint64
	boot     string // begins the ids of requests

	sessions    sessions
	silenceBusy time.Duration // frame.SilenceBusy, but in tests
	silenceIdle time.Duration
	acquires    calls[acquireID] // waiting or about to be decided
	receives    calls[string]
	consumers   calls[string] // receives by consumer, so that a detach can end them

	mu     sync.Mutex
	served bool
}

// New makes a server. It does no I/O.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, guard: newGuard(&cfg), boot: newBoot(), answers: semaphore.NewWeighted(cfg.MaxAnswers),
		silenceBusy: frame.SilenceBusy, silenceIdle: frame.SilenceIdle,
	}
	s.drain, s.startEnd = context.WithCancel(context.Background())
	s.metrics = newMetrics(s)
	if cfg.Locks != nil {
		s.locksCan = cfg.Locks.Caps()
	}
	s.routes = map[string]map[string]*route{}
	table := routes()
	for i := range table {
		r := &table[i]
		if s.routes[r.path] == nil {
			s.routes[r.path] = map[string]*route{}
		}
		s.routes[r.path][r.method] = r
	}
	doc, err := describe(table, cfg.Version)
	if err != nil {
		return nil, err
	}
	s.openapi = doc
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		TLSConfig:         cfg.TLS,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ConnContext:       withConn,
		// OPTIONS * is nobody's: it has to be authorised as all else.
		DisableGeneralOptionsHandler: true,
		// One request at a time on a connection: the limits count connections.
		Protocols: onlyHTTP1(),
	}
	return s, nil
}

func onlyHTTP1() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

// AllowListen returns an error if the configuration does not admit serving on
// addr: elsewhere than on loopback it wants tokens, or Config.Insecure.
func (s *Server) AllowListen(addr net.Addr) error {
	if s.cfg.Insecure || len(s.cfg.Tokens) > 0 || isLoopback(addr) {
		return nil
	}
	return errors.New("refusing to listen on " + addr.String() + " without authentication: anybody who reaches it could take locks and messages; " +
		"give a file of tokens (--token-file), or listen on 127.0.0.1, or insist (--insecure)")
}

// Serve accepts on ln until ctx ends or Shutdown is called, then stops as
// Shutdown does, bounded by Config.DrainTimeout, and returns nil. It closes ln.
// It may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	again := s.served
	s.served = true
	s.mu.Unlock()
	if again {
		ln.Close()
		return errors.New("server: Serve called twice")
	}
	if err := s.AllowListen(ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	if len(s.cfg.Tokens) > 0 && s.cfg.TLS == nil && !isLoopback(ln.Addr()) {
		s.cfg.Logger.Warn("bearer tokens cross the network in the clear: use TLS", "listen", ln.Addr().String())
	}
	limited := newLimitListener(ln, s.cfg.MaxConns, s.metrics.conns)
	done := make(chan error, 1)
	go func() {
		if s.cfg.TLS != nil {
			done <- s.http.ServeTLS(limited, "", "")
			return
		}
		done <- s.http.Serve(limited)
	}()
	select {
	case err := <-done:
		if !errors.Is(err, http.ErrServerClosed) {
			s.startEnd()
			s.http.Close()
			s.sessions.cut()
			return err
		}
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	return s.Shutdown(end)
}

// Shutdown stops accepting, ends the long polls (a waiter is told its ticket,
// a receiver gets nothing), waits for the other requests under way, and, when
// ctx ends first, cuts them off and returns its error. Sessions are closed when
// nothing is under way on them. It is idempotent.
func (s *Server) Shutdown(ctx context.Context) error {
	s.startEnd()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return errors.Join(err, s.sessions.shutdown(ctx))
}

// readyName is the lock that readiness asks for.
const readyName = "lockkeeper/readyz"

// ready says why the server cannot serve, or nil.
func (s *Server) ready(ctx context.Context) error {
	if s.draining() {
		return wire.NewProblem(wire.CodeUnavailable, "", "the daemon is shutting down")
	}
	if s.cfg.Locks != nil {
		// One name: some backends read all there are for a page of a List.
		if _, err := s.cfg.Locks.List(ctx, &lockdriver.ListRequest{Name: readyName, Max: 1}); err != nil {
			return err
		}
	}
	if s.cfg.Queues != nil {
		return queuesReady(ctx, s.cfg.Queues)
	}
	return nil
}

// queuesReady asks for the statistics of one queue, or, of a backend that has
// none, for what is declared.
func queuesReady(ctx context.Context, c queuedriver.Conn) (err error) {
	if caps := c.Caps(); caps.Stats {
		_, err = c.Stats(ctx, &queuedriver.StatsRequest{Max: 1})
	} else {
		_, err = c.Topology(ctx)
	}
	return err
}

// draining says whether Shutdown has begun.
func (s *Server) draining() bool { return s.drain.Err() != nil }
