package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/server"
)

const (
	defaultListen = "127.0.0.1:7420"
	defaultData   = "lockkeeper-data"
	// dataMode keeps other users away from locks and messages.
	dataMode = 0o700
)

// serving is one `lockkeeper serve`.
type serving struct {
	*app
	listen          string
	data            string
	locks           string // URL of other locks than the store's; "": the store's
	queues          string // likewise of queues
	tokenFile       string
	insecure        bool
	tlsCert, tlsKey string
	hosts           []string
	logLevel        slog.Level
	shutdownTimeout time.Duration
}

func (a *app) serveCommand() *cobra.Command {
	s := &serving{app: a}
	cmd := &cobra.Command{
		Use:     "serve",
		GroupID: groupServer,
		Short:   "Start a durable server for locks and queues",
		Long: `Start a server for locks and queues over HTTP, on a store of its own.

The store is the directory --data, ./lockkeeper-data unless said otherwise; it
is made if it is not there, and one process at a time can open it. What is
confirmed is on disk. --data mem keeps everything in memory and forgets it at
the end. A URL works too: file://DIR?min_ttl=200ms.

With --locks URL it serves the locks of another backend, such as redis://HOST,
to its clients, and the queues of its store. Clients get the backend's tokens
and errors; those who use the backend directly have the same locks. Commits
cannot name such locks. --queues URL does the same for the queues of another
backend, such as amqp://HOST.

On a loopback address everybody on this machine may use it. Elsewhere it wants
--token-file, a file with a secret of at least 16 characters in each line, that
clients send as bearer token; or --insecure.

SIGTERM and Ctrl-C end it gracefully: it stops accepting, lets waiting clients
come back later, and finishes what is under way, for --shutdown-timeout at most.`,
		Example: `  lockkeeper serve
  lockkeeper serve --data /var/lib/lockkeeper
  lockkeeper serve --listen 0.0.0.0:7420 --token-file tokens --tls-cert cert.pem --tls-key key.pem
  lockkeeper serve --locks redis://10.0.0.8:6379/0
  lockkeeper serve --queues amqp://10.0.0.9/shop?password_file=secret
  lockkeeper serve --data mem --listen 127.0.0.1:0      # for a test: a free port`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (s.tlsCert == "") != (s.tlsKey == "") {
				return usageOf(cmd, errors.New("--tls-cert and --tls-key go together"))
			}
			if s.shutdownTimeout <= 0 {
				return usageOf(cmd, errors.New("--shutdown-timeout must be positive"))
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", defaultListen, "address to listen on; port 0 takes a free one")
	f.StringVar(&s.data, "data", defaultData, "directory of the store, mem, or an engine's URL")
	f.StringVar(&s.locks, "locks", "", "`URL` of the locks to serve instead of the store's, such as redis://HOST")
	f.StringVar(&s.queues, "queues", "", "`URL` of the queues to serve instead of the store's, such as amqp://HOST")
	f.StringVar(&s.tokenFile, "token-file", "", "file with bearer tokens, one a line; clients have to send one")
	f.BoolVar(&s.insecure, "insecure", false, "serve everybody who reaches an address that is not loopback")
	f.StringVar(&s.tlsCert, "tls-cert", "", "certificate chain, PEM")
	f.StringVar(&s.tlsKey, "tls-key", "", "key of the certificate, PEM")
	f.StringArrayVar(&s.hosts, "host", nil, "further `NAME` under which clients reach it; repeatable")
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.DurationVar(&s.shutdownTimeout, "shutdown-timeout", server.DefaultDrainTimeout, "how long requests may go on at the end")
	return cmd
}

func (s *serving) run(ctx context.Context) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	cfg, err := s.config()
	if err != nil {
		return err
	}
	store, place, err := s.storeURL()
	if err != nil {
		return err
	}
	// The port first: a second daemon started by mistake is told about the
	// port, which is what it would have to change.
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return listenError(s.listen, err)
	}
	defer ln.Close()
	e, err := engine.Open(ctx, store, &engine.Options{Logger: cfg.Logger})
	if err != nil {
		return fmt.Errorf("cannot open the store: %w", err)
	}
	defer closing(&err, e.Close)
	cfg.Locks, cfg.Queues = e.Locks(), e.Queues()
	if s.locks != "" {
		if cfg.Locks, err = openBackend(ctx, s, "locks", s.locks, lock.OpenConn); err != nil {
			return err
		}
		defer closing(&err, cfg.Locks.Close)
	}
	if s.queues != "" {
		if cfg.Queues, err = openBackend(ctx, s, "queues", s.queues, queue.OpenConn); err != nil {
			return err
		}
		defer closing(&err, cfg.Queues.Close)
	}
	srv, err := server.New(*cfg)
	if err != nil {
		return err
	}
	if err := srv.AllowListen(ln.Addr()); err != nil {
		return &failure{status: StatusUsage, err: err}
	}
	if err := s.greet(ln.Addr(), place); err != nil {
		return err
	}
	return s.serveUntilFailure(ctx, srv, ln, e)
}

// openBackend opens what is served instead of the store's own: --locks or
// --queues.
func openBackend[C any](ctx context.Context, s *serving, what, at string, open func(context.Context, string) (C, error)) (conn C, err error) {
	for _, own := range []string{"mem:", "file:"} {
		if strings.HasPrefix(at, own) {
			return conn, &failure{status: StatusUsage, err: fmt.Errorf("--%s is for another backend; the daemon's own %s are in its store, see --data: %s", what, what, at)}
		}
	}
	s.url = at // what advice is about
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if conn, err = open(ctx, at); err != nil {
		return conn, fmt.Errorf("--%s: %w", what, err)
	}
	return conn, nil
}

// serveUntilFailure serves until ctx ends, which is success, or the store
// fails: nothing can be served then, and whoever supervises the daemon should
// start it anew.
func (s *serving) serveUntilFailure(ctx context.Context, srv *server.Server, ln net.Listener, e *engine.Engine) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	select {
	case err := <-served:
		return err
	case <-e.Done():
		cancel()
		return errors.Join(fmt.Errorf("the store has failed, confirmed work is safe on disk; look at the disk and start again: %w", e.Err()), <-served)
	case <-ctx.Done():
	}
	s.say("shutting down")
	if err := <-served; err != nil {
		return fmt.Errorf("requests were cut off after %v: %w", s.shutdownTimeout, err)
	}
	return nil
}

func (s *serving) config() (*server.Config, error) {
	cfg := &server.Config{
		Version: currentBuild().Version, Logger: s.logger(s.logLevel), Insecure: s.insecure,
		Hosts: s.hosts, DrainTimeout: s.shutdownTimeout,
	}
	if s.tokenFile != "" {
		tokens, err := server.ReadTokens(s.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		cfg.Tokens = tokens
		if info, err := os.Stat(s.tokenFile); err == nil && info.Mode().Perm()&0o004 != 0 {
			s.say("everybody on this machine can read %s, and so use its tokens: chmod o-r it", s.tokenFile)
		}
	}
	if s.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	return cfg, nil
}

// storeURL returns the engine's URL for --data, and how to call the place. It
// makes the directory.
func (s *serving) storeURL() (store, place string, err error) {
	switch {
	case s.data == "mem":
		return "mem://", "in memory, gone when this ends", nil
	case strings.HasPrefix(s.data, "mem://"):
		return s.data, "in memory, gone when this ends", nil
	case strings.HasPrefix(s.data, "file://"):
		return s.data, s.data, nil
	case s.data == "":
		return "", "", &failure{status: StatusUsage, err: errors.New("--data must name a directory")}
	case strings.Contains(s.data, "://"):
		return "", "", &failure{status: StatusUsage, err: fmt.Errorf("--data must be a directory, mem, mem:// or file://, is %q", s.data)}
	}
	dir, err := filepath.Abs(s.data)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, dataMode); err != nil {
		return "", "", fmt.Errorf("cannot make the directory of the store: %w", err)
	}
	return "file://" + (&url.URL{Path: dir}).EscapedPath(), dir, nil
}

// listenError says what to do about a port that cannot be had.
func listenError(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken, perhaps by another lockkeeper: use that one (lockkeeper doctor), or give another --listen: %w", addr, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("not allowed to listen on %s: take a port above 1023: %w", addr, err)
	}
	return fmt.Errorf("cannot listen on %s: %w", addr, err)
}

// servingJSON is what `serve --json` prints when it is ready.
type servingJSON struct {
	URL    string `json:"url"`
	Data   string `json:"data"`
	Locks  string `json:"locks,omitempty"`  // where they are, if not there
	Queues string `json:"queues,omitempty"` // likewise
	PID    int    `json:"pid"`
}

// greet prints where it listens, where the data is, and what to try next.
func (s *serving) greet(addr net.Addr, place string) error {
	scheme := "http"
	if s.tlsCert != "" {
		scheme = "https"
	}
	at := scheme + "://" + addr.String()
	locks, queues := "", ""
	if s.locks != "" {
		locks = lease.PublicURL(s.locks)
	}
	if s.queues != "" {
		queues = lease.PublicURL(s.queues)
	}
	if s.json {
		return s.printJSON(servingJSON{at, place, locks, queues, os.Getpid()})
	}
	if locks != "" {
		place += "\nlocks: " + locks
	}
	if queues != "" {
		place += "\nqueues: " + queues
	}
	to := ""
	if at != DefaultURL {
		to = "export LOCKKEEPER_URL=" + strings.Replace(strings.Replace(at, "[::]", "127.0.0.1", 1), "0.0.0.0", "127.0.0.1", 1) + "\n  "
	}
	_, err := fmt.Fprintf(s.Out, `lockkeeper listens on %s
data: %s

Try in another terminal:
  %slockkeeper lock hello -- sh -c 'echo "I hold it, token $LOCKKEEPER_TOKEN"; sleep 5'
  lockkeeper declare queue mail && lockkeeper publish "" mail hello
  lockkeeper consume mail --count 1
  curl %s/v1/locks

Interface: %s/openapi.json   Metrics: %s/metrics   Ctrl-C ends it.
`, at, place, to, at, at, at)
	return err
}
