package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/semaphore"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/internal/wire/frame"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// maxUnsent is how many bytes of answers may wait for a session's client to
// take them before those who have more to say wait too.
const maxUnsent = 1 << 20

// session is one client's multiplexed connection. One goroutine reads; each
// request, or group of requests of a batch, has one while it is under way,
// except for those that the driver can begin without (lockdriver.Starter),
// which the session does not wait for when it ends; one writes while there is
// something to write. A session that is idle has the first only, and no buffers
// but the library's.
type session struct {
	s      *Server
	ws     *websocket.Conn
	conn   net.Conn
	r      *http.Request // whose context ends with the session
	ctx    context.Context
	cancel context.CancelFunc
	out    *frame.Outbox
	slots  *semaphore.Weighted // of maxSessionCalls
	work   sync.WaitGroup

	last     uint64   // id of the last request; the reader's own
	gathered gathered // what a batch asks for; likewise

	calls atomic.Int64
	waits atomic.Int64
	bulky atomic.Bool // the last deliveries were large
	due   atomic.Bool // answers were gathered, and nobody writes: see flush

	mu      sync.Mutex
	settled sync.Cond // open, held or unsent have shrunk, or gone is set
	open    int       // requests without an answer
	inside  bool      // a message is arriving, with a deadline of its own
	unsent  int       // requests whose answer is not written
	held    int64     // bytes of batches and calls with requests whose answer is not written
	gone    bool
	stops   map[uint64]*stop // requests that a cancel ends
	lane    []*posted        // publishes that wait for their turn
	posting bool             // somebody works on the lane
	why     string           // for which the session ends; the first counts
	queues  queuedriver.Conn // its own; nil: nobody has asked yet
}

// stop ends a request, or gives it credit.
type stop struct {
	cancel func()
	drain  func()            // nil: it notices by itself that the server shuts down
	credit func(n int) error // nil: takes none
}

// allStops returns those of all requests under way. ss.mu is held.
func (ss *session) allStops() []*stop { return slices.Collect(maps.Values(ss.stops)) }

// violation is what a client did that ends its session.
type violation struct {
	code   websocket.StatusCode
	reason string
}

func (v *violation) Error() string { return v.reason }

func violated(format string, args ...any) error {
	return &violation{websocket.StatusPolicyViolation, fmt.Sprintf(format, args...)}
}

// serveConnect upgrades the connection to a session.
func serveConnect(c *call) error {
	if err := checkUpgrade(c.r); err != nil {
		return err
	}
	conn, _ := c.r.Context().Value(connKey{}).(net.Conn)
	if _, ok := c.w.(http.Hijacker); !ok || conn == nil {
		return wire.NewProblem(wire.CodeUnsupported, "", "a session cannot be within another one")
	}
	ss := &session{s: c.s, conn: conn, slots: semaphore.NewWeighted(maxSessionCalls)}
	ss.out = frame.NewOutbox(ss.write, ss.unwritable)
	if !c.s.sessions.enter(ss, c.s.draining) {
		return wire.NewProblem(wire.CodeUnavailable, "", "the daemon is shutting down")
	}
	c.status, c.code = http.StatusSwitchingProtocols, "ok"
	// The guard has looked at Origin already, more strictly.
	ws, err := websocket.Accept(c.w, c.r, &websocket.AcceptOptions{
		Subprotocols: []string{frame.Protocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		c.s.sessions.leave(ss)
		c.code = wire.CodeInvalid
		return nil //nolint:nilerr // Accept has answered
	}
	ws.SetReadLimit(frame.MaxBatch)
	ss.ws = ws
	ss.ctx, ss.cancel = context.WithCancel(context.Background())
	ss.r = (&http.Request{Method: http.MethodGet, RemoteAddr: c.r.RemoteAddr, Host: c.r.Host, TLS: c.r.TLS}).WithContext(ss.ctx)
	ss.settled.L = &ss.mu
	// The request and its goroutine, with all that net/http has for them,
	// are done with: a session needs little of it.
	go ss.run() // sessions.shutdown waits for it
	return nil
}

func checkUpgrade(r *http.Request) error {
	switch {
	case r.Method != http.MethodGet:
		return wire.NewProblem(wire.CodeMethod, "", "a session begins with GET")
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return wire.NewProblem(wire.CodeInvalid, "Upgrade", "must be websocket: this is the multiplexed session")
	case !hasToken(r.Header.Values("Sec-WebSocket-Protocol"), frame.Protocol):
		return wire.NewProblem(wire.CodeInvalid, "Sec-WebSocket-Protocol", "must offer "+frame.Protocol)
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return wire.NewProblem(wire.CodeInvalid, "Sec-WebSocket-Version", "must be 13")
	}
	return nil
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// run reads until the session ends, and clears up behind it.
func (ss *session) run() {
	defer ss.s.sessions.leave(ss)
	ss.s.metrics.sessions.Inc()
	defer ss.s.metrics.sessions.Dec()
	defer context.AfterFunc(ss.s.drain, func() { go ss.drain() })()
	ss.greet()
	err := ss.read()
	ss.because(closeReason(err))
	ss.mu.Lock()
	ss.gone = true
	ss.settled.Broadcast()
	stops := ss.allStops()
	ss.mu.Unlock()
	ss.cancel()
	for _, st := range stops {
		st.cancel()
	}
	ss.out.Close()
	var bad *violation
	if errors.As(err, &bad) {
		_ = ss.ws.Close(bad.code, shorten(bad.reason)) // within seconds, or cut off
	}
	_ = ss.ws.CloseNow()
	ss.out.Idle()
	ss.work.Wait()
	ss.mu.Lock()
	why, queues := ss.why, ss.queues
	ss.mu.Unlock()
	if queues != nil && queues != ss.s.cfg.Queues {
		_ = queues.Close() // with its consumers and exclusive queues
	}
	ss.s.metrics.sessionCloses.WithLabelValues(why).Inc()
	ss.s.cfg.Logger.Debug("session ended", "remote", ss.r.RemoteAddr, "reason", why, "error", err)
}

// shorten cuts a reason to what a close frame can carry.
func shorten(s string) string {
	const most = 123
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// because notes why the session ends, unless that is known.
func (ss *session) because(why string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.why == "" {
		ss.why = why
	}
}

// closeReason is the label of metrics.
func closeReason(err error) string {
	var bad *violation
	switch {
	case errors.As(err, &bad) && bad.code == websocket.StatusTryAgainLater:
		return "limit"
	case errors.As(err, &bad), errors.Is(err, websocket.ErrMessageTooBig):
		return "violation"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silent"
	case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
		return "client"
	}
	return "lost"
}

func (ss *session) greet() {
	caps, err := wire.Encode(ss.s.capabilities(ss))
	if err != nil {
		caps = nil
	}
	b := frame.Buffer()
	defer frame.Free(b)
	*b = frame.AppendHello(*b, &frame.Greeting{
		Service: wire.Service, Version: ss.s.cfg.Version, Capabilities: caps,
		MaxBatch: frame.MaxBatch, MaxFrames: frame.MaxFrames, MaxItems: frame.MaxItems, MaxCalls: frame.MaxCalls,
		MaxWaits: frame.MaxWaits, MaxCallBytes: frame.MaxCallBytes, MaxCredit: frame.MaxCredit,
		SilenceBusy: ss.s.silenceBusy, SilenceIdle: ss.s.silenceIdle,
	})
	_, _ = ss.out.Send(0, *b, 0, nil) // a session that has ended is noticed by its reader
	ss.s.metrics.counted(frame.Hello)
}

// read takes batches until the connection ends or the client breaks a rule.
func (ss *session) read() error {
	for {
		ss.mu.Lock()
		ss.inside = false
		ss.listen()
		ss.mu.Unlock()
		kind, r, err := ss.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if kind != websocket.MessageBinary {
			return &violation{websocket.StatusUnsupportedData, "messages must be binary"}
		}
		ss.mu.Lock()
		ss.inside = true
		ss.mu.Unlock()
		b := &batch{ss: ss, received: time.Now()}
		err = b.read(r)
		if err == nil {
			err = ss.take(b)
		}
		b.leave()
		if err == nil && b.pinged {
			_ = ss.out.Wait(maxUnsent) // or pongs that nobody takes pile up; room says the same
		}
		if err == nil {
			err = ss.room()
		}
		if err != nil {
			return err
		}
	}
}

// listen lets the client be silent from now on for as long as it may. ss.mu is
// held.
func (ss *session) listen() {
	silence := ss.s.silenceIdle
	if ss.open > 0 {
		silence = ss.s.silenceBusy
	}
	_ = ss.conn.SetReadDeadline(time.Now().Add(silence)) // one that fails, fails in Reader too
}

// room waits until the client may have more under way. A client that keeps to
// its limits and takes its answers never waits here.
func (ss *session) room() error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for !ss.gone && (ss.held > frame.MaxCallBytes || ss.unsent > frame.MaxCalls+frame.MaxWaits) {
		ss.settled.Wait()
	}
	if ss.gone {
		return net.ErrClosed
	}
	return nil
}

// write writes one batch. A client that does not take it in time is cut off.
func (ss *session) write(head, b []byte, frames int) error {
	m := ss.s.metrics
	m.sessionBatches[outgoing].Inc()
	n := len(head) + len(b)
	m.sessionBytes[outgoing].Add(float64(n))
	allowance := ss.s.allowance(ss.s.cfg.WriteTimeout, int64(n))
	_ = ss.conn.SetWriteDeadline(time.Now().Add(allowance)) // one that fails, fails in Write too
	return frame.Write(ss.ws, head, b)
}

// unwritable ends the session after a failed write.
func (ss *session) unwritable(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		ss.because("slow")
	}
	ss.mu.Lock()
	ss.gone = true
	ss.settled.Broadcast()
	ss.mu.Unlock()
	ss.conn.Close() // wakes the reader
}

// drain lets the requests under way end and then closes the session. The waits
// among them are ended by the same signal.
func (ss *session) drain() {
	ss.mu.Lock()
	for _, st := range ss.allStops() {
		if st.drain != nil {
			ss.mu.Unlock()
			st.drain()
			ss.mu.Lock()
		}
	}
	for !ss.gone && ss.open > 0 {
		ss.settled.Wait()
	}
	gone := ss.gone
	ss.mu.Unlock()
	if gone {
		return
	}
	ss.because("shutdown")
	ss.out.Idle()
	_ = ss.ws.Close(websocket.StatusGoingAway, "the daemon is shutting down") // the reader sees it end
}

// sessions are all that are open.
type sessions struct {
	mu  sync.Mutex
	all map[*session]struct{}
	wg  sync.WaitGroup
}

// enter counts a session, unless full says that no more may begin.
func (sx *sessions) enter(ss *session, closed func() bool) bool {
	sx.mu.Lock()
	defer sx.mu.Unlock()
	if closed() {
		return false
	}
	if sx.all == nil {
		sx.all = map[*session]struct{}{}
	}
	sx.all[ss] = struct{}{}
	sx.wg.Add(1)
	return true
}

func (sx *sessions) leave(ss *session) {
	sx.mu.Lock()
	defer sx.mu.Unlock()
	delete(sx.all, ss)
	sx.wg.Done()
}

// shutdown waits until all sessions have ended. When ctx ends first it cuts
// them off and returns ctx's error. No session may begin any more.
func (sx *sessions) shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		sx.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	sx.cut()
	<-done
	return context.Cause(ctx)
}

// unsent is how many bytes wait in all outboxes.
func (sx *sessions) unsent() (bytes int) {
	sx.mu.Lock()
	defer sx.mu.Unlock()
	for ss := range sx.all {
		bytes += ss.out.Bytes()
	}
	return bytes
}

// cut ends all sessions at once.
func (sx *sessions) cut() {
	sx.mu.Lock()
	defer sx.mu.Unlock()
	for ss := range sx.all {
		ss.conn.Close()
	}
}
